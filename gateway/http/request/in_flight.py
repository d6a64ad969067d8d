"""Bytes of bodies and pages in flight, bounded per key and in total.

A body counts from its first byte until the answer, a page from when it is built until it is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from aiohttp import web

from gateway.errors import TooManyRequests, Unavailable

_CODE = "too_many_bytes_in_flight"


# Method of a connection: calls its argument when the request is answered or the connection lost.
Holder = Callable[[Callable[[], None]], None]


class InFlight:
    """Budget of bytes in flight of one process."""

    def __init__(self, most: int, most_per_key: int) -> None:
        self.held = 0
        self.refused = 0
        self._most = max(most, most_per_key)
        self._most_per_key = most_per_key
        self._of_key: Counter[str] = Counter()

    def of(self, request: web.Request, key_id: str) -> Holding:
        """Holding of a request until it is answered."""
        holding = Holding(self, key_id)
        holder: Holder | None = getattr(request.protocol, "hold", None)
        if holder is not None:
            holder(holding.release)
        return holding

    def fits(self, key_id: str, size: int) -> bool:
        """Whether the key may hold `size` more bytes now."""
        return self.held + size <= self._most and self._of_key[key_id] + size <= self._most_per_key

    def take(self, key_id: str, size: int) -> None:
        """Take bytes. Raises `TooManyRequests` at the key's bound, `Unavailable` at that of all."""
        if self._of_key[key_id] + size > self._most_per_key:
            self.refused += 1
            raise TooManyRequests(
                "requests of this key hold too many bytes at once; end some of them first, or "
                "send and ask for less at a time",
                code=_CODE,
            )
        if self.held + size > self._most:
            self.refused += 1
            raise Unavailable("requests hold too many bytes at once; come again", code=_CODE)
        self.held += size
        self._of_key[key_id] += size

    def give_back(self, key_id: str, size: int) -> None:
        self.held -= size
        self._of_key[key_id] -= size
        if self._of_key[key_id] <= 0:
            del self._of_key[key_id]


class Holding:
    """Bytes in flight of one request."""

    __slots__ = ("_budget", "_over", "_size", "key_id")

    def __init__(self, budget: InFlight, key_id: str) -> None:
        self.key_id = key_id
        self._budget = budget
        self._size = 0
        self._over = False

    def take(self, size: int) -> None:
        """Take bytes for the request. Raises as `InFlight.take` does."""
        if not self._over:
            self._budget.take(self.key_id, size)
            self._size += size

    def grow(self, size: int) -> bool:
        """Take `size` more bytes if they fit; return whether they did."""
        if self._over or not self._budget.fits(self.key_id, size):
            return False
        self.take(size)
        return True

    def give_back(self, size: int) -> None:
        """Give bytes back before the request is answered."""
        if not self._over:
            self._size -= size
            self._budget.give_back(self.key_id, size)

    def release(self) -> None:
        """Give all bytes back, once."""
        if not self._over:
            self._over = True
            self._budget.give_back(self.key_id, self._size)
