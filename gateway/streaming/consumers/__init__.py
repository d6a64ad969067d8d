"""Durable positions of readers: consumers of keys, and what else is delivered with a memory."""
