"""The expression language of filters: CEL, restricted to one event."""
