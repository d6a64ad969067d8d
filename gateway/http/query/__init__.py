"""Parameters of streams, pages and other requests, and the position where they begin."""
