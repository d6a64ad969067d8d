"""PostgreSQL: the shared log, keys, usage and followed tables."""
