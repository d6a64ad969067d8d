"""Port of the log, and positions in it."""
