"""Unfinished TLS handshakes of a process: bounded in number and in time, and continued in turns.

A connection counts for the limits of connections from the end of its handshake on. Before that it
costs memory and a private-key operation of up to a millisecond, and needs no key.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from gateway.access.limits.limits import address_subject
from gateway.http.connection.write_scheduler import WriteScheduler

MOST = 1024
SECONDS = 10.0


class Shaking(Protocol):
    """Connection with an unfinished handshake."""

    def abort(self) -> None:
        """Close at once."""


class Handshakes:
    """Handshakes that have begun. Where there are too many, the oldest goes of the address that has
    most of them."""

    def __init__(self, most: int = MOST, seconds: float = SECONDS) -> None:
        self._most = most
        self._seconds = seconds
        # The oldest first.
        self._open: dict[Shaking, tuple[str, asyncio.TimerHandle]] = {}
        self._scheduler = WriteScheduler(lambda: False)

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, connection: Shaking, address: str) -> None:
        """Count a handshake until `end`."""
        if len(self._open) >= self._most:
            self._evict()
        timer = asyncio.get_running_loop().call_later(self._seconds, connection.abort)
        self._open[connection] = address_subject(address), timer

    def end(self, connection: Shaking) -> None:
        """Forget a handshake: it is done, has failed, or the peer is gone."""
        _, timer = self._open.pop(connection, ("", None))
        if timer is not None:
            timer.cancel()

    def schedule(self, step: Callable[[], None]) -> None:
        """Call the next step of a handshake, or of a connection with many records, in its turn, one
        in a round of the event loop."""
        self._scheduler.schedule(step)

    def close(self) -> None:
        """Abort all of them."""
        for connection in list(self._open):
            self.end(connection)
            connection.abort()

    def _evict(self) -> None:
        counted = Counter(subject for subject, _ in self._open.values())
        [(crowd, _)] = counted.most_common(1)
        oldest = next(one for one, (subject, _) in self._open.items() if subject == crowd)
        self.end(oldest)
        oldest.abort()
