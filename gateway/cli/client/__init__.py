"""Clients of a running gateway, over HTTP."""
