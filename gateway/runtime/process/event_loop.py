"""The event loop of a gateway: no round of it takes in more than some sockets, those of bulk
transfers behind the others, and work that is in no hurry waits until nothing else is ready.

asyncio serves in one round whatever is ready. When thousands of peers send at the same moment, that
round lasts as long as all of them together, and no timer and no delivery has its turn before. And
an event on its way takes ten rounds: with a slice of work in each, or some pieces of large bodies,
it would wait for all of these.

    a socket that is ready                        is served
    while few others are                          at once
    while many others are                         in its turn, some in each round
    again as soon as it was served, among these   in its turn, one in a round, when nothing else
    (a bulk transfer)                             is ready or some moments after the last one
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Coroutine
from selectors import DefaultSelector, SelectorKey
from typing import Any

# Sockets that one round serves in their turn: some hundredths of a millisecond each.
AT_ONCE = 16
# So few need no turns.
FEW = 4
# How long the next bulk transfer waits at most for when nothing else is ready.
BULK_SECONDS = 0.001
# To look for newcomers takes some tenths of a microsecond for each socket that is ready: it is done
# once a 64th of these have been served.
_LOOKS = 64

_Ready = tuple[SelectorKey, int]


class SomeAtOnce(DefaultSelector):
    """A selector that says of few sockets at a time that they are ready, each in its turn."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._timer = timer
        # What is ready and waits for its turn, by descriptor, in order; bulk transfers apart.
        self._waiting: dict[int, _Ready] = {}
        self._bulk: dict[int, _Ready] = {}
        self._bulk_due = 0.0
        # How many were ready at the last look, and what was served since.
        self._found = 0
        self._served: set[int] = set()
        # What waits until the loop is idle, and until when it does; the oldest first.
        self._patient: deque[tuple[Callable[[], object], float]] = deque()

    def when_idle(self, call: Callable[[], object], within: float) -> None:
        """Call something between two rounds, one at a time: once nothing else is ready, and after
        so many seconds at the latest."""
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
        # The loop has something to do itself where it does not wait.
        if (not found and timeout != 0) or self._timer() >= until:
            self._patient.popleft()
            call()
        return found

    def _select(self, timeout: float | None, *, idle: bool | None = None) -> list[_Ready]:
        """What this round serves. `idle`: whether the loop has nothing else to do, as when it
        would wait."""
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
        """Let ready sockets wait for their turn, where they do not yet."""
        for ready in found:
            descriptor = ready[0].fd
            # Who has been heard and is ready again at once has much to say.
            if descriptor in self._bulk or (
                descriptor in self._served and not _listens(descriptor)
            ):
                self._bulk[descriptor] = ready
            else:
                self._waiting[descriptor] = ready
        self._found = len(found)
        self._served.clear()

    def _next(self, ready: dict[int, _Ready], count: int) -> list[_Ready]:
        """Sockets whose turn it is, unless they are no longer waited for, or for something else."""
        found: list[_Ready] = []
        registered = self.get_map()
        while ready and len(found) < count:
            descriptor = next(iter(ready))
            key, events = ready.pop(descriptor)
            if registered.get(descriptor) is key:
                found.append((key, events))
        return found


def _listens(descriptor: int) -> bool:
    """Whether it is a listening socket: all of its peers are different ones."""
    try:
        same = socket.socket(fileno=descriptor)
    except OSError:
        return False
    try:
        return bool(same.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    finally:
        same.detach()


class Loop(asyncio.SelectorEventLoop):
    """An event loop on such a selector."""

    def __init__(self) -> None:
        self._selector_of_some = SomeAtOnce()
        super().__init__(self._selector_of_some)

    def when_idle(self, call: Callable[[], object], within: float) -> None:
        """Call something between two rounds: once nothing else is ready, and after so many
        seconds at the latest."""

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
    """`asyncio.run` on such a loop."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(work)


def crowded() -> bool:
    """As `Loop.crowded`; not where the running loop is another one."""
    loop = asyncio.get_running_loop()
    return isinstance(loop, Loop) and loop.crowded


def when_idle(call: Callable[[], object], within: float) -> None:
    """Do as `Loop.when_idle`; in the next round where the running loop is another one."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, Loop):
        loop.when_idle(call, within)
    else:
        loop.call_soon(call)
