"""Rows of the file of keys in SQLite."""
