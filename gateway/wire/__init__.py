"""Framing of messages: SSE, NDJSON and WebSocket."""
