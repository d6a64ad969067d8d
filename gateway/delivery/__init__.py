"""Delivery of events to destinations: outside systems that the gateway connects to."""
