"""Ingest: from bytes to validated events, and from there durably into the log."""
