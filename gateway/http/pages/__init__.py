"""Pages of events: what is read of the log for one of them, within the bounds of looking."""
