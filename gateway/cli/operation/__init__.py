"""Commands for whoever looks after a running gateway."""
