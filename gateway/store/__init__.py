"""The ports to durable state, and their adapters."""
