"""The audit log gateway: tails an append-only event store and pushes filtered audit events."""

__version__ = "0.1.0"
