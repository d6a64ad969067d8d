"""Requests that send one event each, taken without a request object where their head is known."""
