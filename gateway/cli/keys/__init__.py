"""`audit-gateway keys`."""
