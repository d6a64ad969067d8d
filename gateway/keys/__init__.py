"""Provisioning keys: the token format, grants, and pure decisions about them."""
