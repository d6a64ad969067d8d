"""Ports for servers that have to know theirs before they start, or keep it over a restart."""

from __future__ import annotations

import socket
from random import SystemRandom

# Below where systems begin to give ports to clients (32768 on Linux): a connection of another
# test never takes one while its server is down. Redis adds 10,000 for the ports of a cluster.
_FIRST, _LAST = 11_000, 22_000
_TRIED = 100
_random = SystemRandom()


def free_port() -> int:
    """A port that nobody uses. By chance, so that tests in other processes choose others."""
    for _ in range(_TRIED):
        port = _random.randint(_FIRST, _LAST)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise RuntimeError(f"no free port between {_FIRST} and {_LAST}")
