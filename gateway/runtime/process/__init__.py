"""A process of the gateway: event loop, threads, memory, sockets and its own log."""
