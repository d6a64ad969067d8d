"""Redis: limits, leases, usage and wake-ups that replicas share."""
