"""In-process adapters: the limits of a gateway that runs alone."""
