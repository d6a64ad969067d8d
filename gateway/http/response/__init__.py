"""Responses: heads, media types and problem documents."""
