"""Metrics of all processes of a gateway."""
