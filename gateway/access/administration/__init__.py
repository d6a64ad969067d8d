"""Administration of keys and roles, for HTTP and the command line alike."""
