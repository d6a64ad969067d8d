"""Access log: accesses of keys, as events of the log itself."""
