"""TLS of the gateway's own listener: certificates, their replacement, and the transport."""
