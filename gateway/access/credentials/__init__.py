"""Credentials: tokens of keys, peppers and stream tickets."""
