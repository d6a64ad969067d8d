"""Limits: rates, concurrency, deliveries and time on the event loop."""
