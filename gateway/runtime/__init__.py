"""How a gateway runs as a process."""
