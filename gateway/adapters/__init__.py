"""Adapters to what is outside: each implements ports."""
