"""Requests: authentication, limits, bodies, queries and the access log."""
