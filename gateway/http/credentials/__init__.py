"""Credentials of requests: keys in headers and subprotocols, tickets, cookies of sessions."""
