"""Embedded viewers: pages of others show a part of the log in a frame, with a ticket."""
