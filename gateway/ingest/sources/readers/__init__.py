"""Readers of records that are lines of text instead of JSON, one module each."""
