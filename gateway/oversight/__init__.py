"""Oversight: the access log, detection, review, and the clock."""
