"""What replicas share: limits, usage counters, leases and wake-ups, in process or over Redis."""
