"""`audit-gateway import`."""
