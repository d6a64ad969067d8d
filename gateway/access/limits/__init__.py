"""Limits: rates, daily quotas, concurrency and deliveries."""
