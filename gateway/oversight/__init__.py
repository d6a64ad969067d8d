"""Oversight: access log, detection, review, and the clock."""
