"""Health of this process, and of the whole gateway."""
