"""Use of keys: one access, and how much is used over time."""
