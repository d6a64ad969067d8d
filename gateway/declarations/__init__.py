"""Declared sets of roles, keys and destinations: files, plans, and their application."""
