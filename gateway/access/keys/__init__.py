"""Provisioning keys: their life, their descent, and the ports to their store."""
