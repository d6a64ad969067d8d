"""Formats: what an event is written as, native or in another standard."""
