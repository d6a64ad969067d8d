"""`audit-gateway review`: a review of access as a report."""
