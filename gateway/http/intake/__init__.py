"""Items of ingest requests: what the key may write of them, and the streaming way in."""
