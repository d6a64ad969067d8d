"""Mapping of records to members of events: paths, definitions, and what they compile to."""
