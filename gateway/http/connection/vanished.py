"""Detection of stream peers that vanished silently: a lost network, a dead machine.

Unacknowledged heartbeats disable TCP's keepalive, and the kernel then retransmits for a quarter of
an hour. TCP_USER_TIMEOUT would bound that, but also cuts peers that are alive and do not read
(their window is closed, and they answer the kernel's probes), which slow subscribers may do for as
long as they like. So the kernel is asked about the state of each connection.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any

from gateway.streaming.live.hub import Hub
from gateway.streaming.live.subscription import Subscription

# Calls of `probe` that check all connections once.
_ROUND = 10
# Fields of Linux's `struct tcp_info`: `retransmits`, `probes` and `last_ack_recv`.
_TCP_INFO = struct.Struct("=2xBB52xI")
# A peer has vanished after this silence and as many failed attempts in a row.
_SILENT_MILLISECONDS = 30_000
_ATTEMPTS = 3


class VanishedPeers:
    """Cuts the streams of vanished peers. Call `probe` about once a second."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._round: Iterator[Subscription] = iter(())

    def probe(self) -> None:
        """Check a part of the connections, so that no call takes long."""
        part = len(self._hub.subscriptions) // _ROUND + 1
        looked_at = list(islice(self._round, part))
        if len(looked_at) < part:
            self._round = iter(list(self._hub.subscriptions))
        for subscription in looked_at:
            if subscription.sink.vanished:
                subscription.sink.abort()


def has_vanished(sock: Any) -> bool:
    """Whether the peer of a socket has been silent for too long, as far as the kernel tells."""
    if not hasattr(socket, "TCP_INFO"):
        return False
    try:
        found = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:
        return False
    if len(found) < _TCP_INFO.size:
        return False
    retransmits, probes, silent = _TCP_INFO.unpack(found)
    in_vain: bool = retransmits >= _ATTEMPTS or probes >= _ATTEMPTS
    return in_vain and bool(silent >= _SILENT_MILLISECONDS)
