"""Decisions about keys: what is allowed, what is seen, and what is subsumed."""
