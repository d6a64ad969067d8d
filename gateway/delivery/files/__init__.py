"""Files that destinations write: segments of events, closed and listed one after the other."""
