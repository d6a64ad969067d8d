"""The port of the log, and positions in it."""
