"""Routes: one module per resource; none imports another."""
