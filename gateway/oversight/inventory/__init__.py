"""Inventory of keys: which of many are wanted, and which want looking at."""
