"""How events look on each wire: SSE, WebSocket, NDJSON (pure)."""
