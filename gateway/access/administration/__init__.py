"""What administrators do with keys and roles, for HTTP and the command line alike."""
