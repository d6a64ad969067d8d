"""Access review and usage over keys, for who looks after keys."""
