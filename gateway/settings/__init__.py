"""Settings: declared once, read from four sources, described for people."""
