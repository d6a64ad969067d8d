"""Mappings from records of other systems to native events: `formats` lists the sources."""
