"""Grants and roles: what is allowed, with masks and limits in time."""
