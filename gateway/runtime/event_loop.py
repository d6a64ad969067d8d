"""The event loop of a gateway: no round of it takes in more than some sockets, and work that is in
no hurry waits until nothing else is ready.

asyncio serves in one round whatever is ready. When thousands of peers send at the same moment, that
round lasts as long as all of them together, and no timer and no delivery has its turn before. And
an event on its way takes ten rounds: with a slice of work in each, it would wait for ten slices.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from selectors import DefaultSelector, SelectorKey
from typing import Any

# Sockets that one round serves: some hundredths of a millisecond each.
AT_ONCE = 16


class SomeAtOnce(DefaultSelector):
    """A selector that says of few sockets at a time that they are ready, each in its turn."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._timer = timer
        self._ready: deque[tuple[SelectorKey, int]] = deque()
        # What waits until the loop is idle, and until when it does; the oldest first.
        self._patient: deque[tuple[Callable[[], object], float]] = deque()

    def when_idle(self, call: Callable[[], object], within: float) -> None:
        """Call something between two rounds, one at a time: once nothing else is ready, and after
        so many seconds at the latest."""
        self._patient.append((call, self._timer() + within))

    @property
    def crowded(self) -> bool:
        """Whether there are ready sockets that wait for their turn."""
        return bool(self._ready)

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if not self._patient:
            return self._select(timeout)
        call, until = self._patient[0]
        found = self._select(0)
        # The loop has something to do itself where it does not wait.
        if (not found and timeout != 0) or self._timer() >= until:
            self._patient.popleft()
            call()
        return found

    def _select(self, timeout: float | None) -> list[tuple[SelectorKey, int]]:
        found = self._next() if self._ready else []
        if not found:
            # Nobody has had a chance to change what these are waited for.
            found = super().select(timeout)
            if len(found) > AT_ONCE:
                self._ready.extend(found[AT_ONCE:])
                del found[AT_ONCE:]
        return found

    def _next(self) -> list[tuple[SelectorKey, int]]:
        """Those whose turn it is, unless they are waited for no more, or for something else."""
        found: list[tuple[SelectorKey, int]] = []
        registered = self.get_map()
        while self._ready and len(found) < AT_ONCE:
            key, events = self._ready.popleft()
            if registered.get(key.fd) is key:
                found.append((key, events))
        return found


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
