"""The program `audit-gateway`."""
