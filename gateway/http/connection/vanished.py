"""Streams whose peer has vanished without a word: a pulled cable, a lost network, a dead machine.

Heartbeats that nobody acknowledges switch TCP's keepalive off, and then the
kernel tries again for a quarter of an hour. TCP_USER_TIMEOUT would bound that,
but it also cuts peers that are there and do not read (their window is closed,
and they answer the kernel's probes), which a slow subscriber may do for as long
as it likes. So the kernel is asked what it knows of each connection.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any

from gateway.streaming.live.hub import Hub
from gateway.streaming.live.subscription import Subscription

# All connections are looked at within so many calls of `probe`.
_ROUND = 10
# Of `struct tcp_info` of Linux: `retransmits`, `probes` and `last_ack_recv`.
_TCP_INFO = struct.Struct("=2xBB52xI")
# Nothing has come back for so long, and so many attempts in a row were in vain.
_SILENT_MILLISECONDS = 30_000
_ATTEMPTS = 3


class VanishedPeers:
    """Cuts the streams of a hub whose peers are gone. Call `probe` about once a second."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._round: Iterator[Subscription] = iter(())

    def probe(self) -> None:
        """Look at a part of the connections, so that no call takes long."""
        part = len(self._hub.subscriptions) // _ROUND + 1
        looked_at = list(islice(self._round, part))
        if len(looked_at) < part:
            self._round = iter(list(self._hub.subscriptions))
        for subscription in looked_at:
            if subscription.sink.vanished:
                subscription.sink.abort()


def has_vanished(sock: Any) -> bool:
    """Whether the peer of a socket has not answered for too long, as far as the kernel tells."""
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
