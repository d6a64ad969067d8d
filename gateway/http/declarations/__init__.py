"""Declared sets over HTTP: their schema, plans and application."""
