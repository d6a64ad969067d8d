"""Connections of the gateway to outside systems: where they may go, and what comes back."""
