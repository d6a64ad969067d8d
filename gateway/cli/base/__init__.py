"""Shared parts of commands: options, the data folder, and output."""
