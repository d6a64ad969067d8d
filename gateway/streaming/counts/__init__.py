"""Counts of what keys see of the log."""
