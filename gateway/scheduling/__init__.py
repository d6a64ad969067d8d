"""Scheduling of long work on the event loop, so that everything else has its turn."""
