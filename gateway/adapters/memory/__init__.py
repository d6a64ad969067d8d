"""In-process adapters: the log and the limits of a gateway that runs alone."""
