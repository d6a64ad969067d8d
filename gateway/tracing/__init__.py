"""What of the gateway is traced, without the library that traces."""
