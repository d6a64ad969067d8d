"""`audit-gateway apply`: files of declarations, and where secrets are put."""
