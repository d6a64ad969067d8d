"""Places of secrets where commands run, and files that declare them."""
