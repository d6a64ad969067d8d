"""The gateway as a process: composition, background tasks, workers."""
