"""Mappings from records of other systems to native events: `lines` lists the sources."""
