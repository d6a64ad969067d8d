"""Destinations in SQLite."""
