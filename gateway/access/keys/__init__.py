"""Provisioning keys: their life, their descent, and the port to where they are stored."""
