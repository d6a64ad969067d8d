"""Usage of keys: single accesses, and counts over time."""
