"""Bodies of senders that speak a protocol of others: what is in them, and which events it makes."""
