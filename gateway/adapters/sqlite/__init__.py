"""SQLite: the embedded log, keys and usage."""
