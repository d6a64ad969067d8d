"""Event loop of a gateway: fair rounds of bounded length.

asyncio serves every ready socket in one round. When thousands of peers send at the same moment,
that round delays all timers and deliveries. Also, an event passes through ten rounds, so slices of
long work and pieces of large bodies in each of them add up. So one round serves a limited number of
sockets, bulk transfers come after the others, and work without hurry waits until nothing else is
ready.

    a ready socket                         is served
    while few others are ready             at once
    while many others are ready            in its turn, some in each round
    again right after it was served,       in its turn, one in a round, when nothing else is ready
    among many (a bulk transfer)           or `BULK_SECONDS` after the last one
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Coroutine
from selectors import DefaultSelector, SelectorKey
from typing import Any

# Sockets that one round serves in their turn; each takes some hundredths of a millisecond.
AT_ONCE = 16
# Up to this number, sockets need no turns.
FEW = 4
# Longest wait of a bulk transfer while other sockets are ready.
BULK_SECONDS = 0.001
# Polling takes some tenths of a microsecond per ready socket: done once a 64th was served.
_LOOKS = 64

_Ready = tuple[SelectorKey, int]


class SomeAtOnce(DefaultSelector):
    """Selector that reports a few ready sockets at a time, each in its turn."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._timer = timer
        # Ready sockets that wait for their turn, by descriptor, in order; bulk transfers apart.
        self._waiting: dict[int, _Ready] = {}
        self._bulk: dict[int, _Ready] = {}
        self._bulk_due = 0.0
        # Number of sockets ready at the last poll, and those served since.
        self._found = 0
        self._served: set[int] = set()
        # Calls that wait until the loop is idle, each with its latest time; the oldest first.
        self._patient: deque[tuple[Callable[[], object], float]] = deque()

    def when_idle(self, call: Callable[[], object], within: float) -> None:
        """Call `call` between two rounds, one call at a time: when the loop is idle, or after
        `within` seconds at the latest."""
        self._patient.append((call, self._timer() + within))

    @property
    def crowded(self) -> bool:
        """Whether there are ready sockets that wait for their turn."""
        return bool(self._waiting or self._bulk)

    def select(self, timeout: float | None = None) -> list[_Ready]:
        if not self._patient:
            return self._select(timeout)
        call, until = self._patient[0]
        found = self._select(0, idle=timeout != 0)
        # The loop has callbacks of its own to run if it does not wait.
        if (not found and timeout != 0) or self._timer() >= until:
            self._patient.popleft()
            call()
        return found

    def _select(self, timeout: float | None, *, idle: bool | None = None) -> list[_Ready]:
        """Sockets that this round serves. `idle`: whether the loop has nothing else to do."""
        crowded = self._waiting or self._bulk
        if not crowded:
            found = super().select(timeout)
            if len(found) <= FEW:
                if self._served:
                    self._served.clear()
                return found
            self._queue(found)
        elif not self._served or len(self._served) * _LOOKS >= self._found:
            self._queue(super().select(0))
        found = self._next(self._waiting, AT_ONCE)
        if self._bulk:
            now = self._timer()
            if (timeout != 0 if idle is None else idle) or now >= self._bulk_due:
                self._bulk_due = now + BULK_SECONDS
                found += self._next(self._bulk, 1)
        self._served.update([key.fd for key, _ in found])
        return found

    def _queue(self, found: list[_Ready]) -> None:
        """Queue ready sockets that do not wait yet."""
        for ready in found:
            descriptor = ready[0].fd
            # A peer that is ready again right after it was served has much to send.
            if descriptor in self._bulk or (
                descriptor in self._served and not _listens(descriptor)
            ):
                self._bulk[descriptor] = ready
            else:
                self._waiting[descriptor] = ready
        self._found = len(found)
        self._served.clear()

    def _next(self, ready: dict[int, _Ready], count: int) -> list[_Ready]:
        """Sockets whose turn it is, without those that were unregistered or changed meanwhile."""
        found: list[_Ready] = []
        registered = self.get_map()
        while ready and len(found) < count:
            descriptor = next(iter(ready))
            key, events = ready.pop(descriptor)
            if registered.get(descriptor) is key:
                found.append((key, events))
        return found


def _listens(descriptor: int) -> bool:
    """Whether a socket listens: each connection is then another peer."""
    try:
        same = socket.socket(fileno=descriptor)
    except OSError:
        return False
    try:
        return bool(same.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    finally:
        same.detach()


class Loop(asyncio.SelectorEventLoop):
    """Event loop on a `SomeAtOnce` selector."""

    def __init__(self) -> None:
        self._selector_of_some = SomeAtOnce()
        super().__init__(self._selector_of_some)

    def when_idle(self, call: Callable[[], object], within: float) -> None:
        """Call `call` when the loop is idle, or after `within` seconds at the latest."""

        def guarded() -> None:
            try:
                call()
            except Exception as error:
                told = {"message": f"exception in {call!r}, called when idle", "exception": error}
                self.call_exception_handler(told)

        self._selector_of_some.when_idle(guarded, within)

    @property
    def crowded(self) -> bool:
        """Whether more sockets are ready than one round serves."""
        return self._selector_of_some.crowded


def run(work: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run` on a `Loop`."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(work)


def crowded() -> bool:
    """`Loop.crowded` of the running loop; False for other kinds of loops."""
    loop = asyncio.get_running_loop()
    return isinstance(loop, Loop) and loop.crowded


def when_idle(call: Callable[[], object], within: float) -> None:
    """`Loop.when_idle` of the running loop; other kinds of loops call it in the next round."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, Loop):
        loop.when_idle(call, within)
    else:
        loop.call_soon(call)
