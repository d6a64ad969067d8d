"""In process: the log and the limits of a gateway that runs alone."""
