"""Health of live delivery in one process: what an inner subscriber measures, and what is slow."""
