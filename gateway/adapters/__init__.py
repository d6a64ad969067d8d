"""Adapters to stores, Redis and files: each implements ports."""
