"""Connections: from sockets to requests, and the connections of streams."""
