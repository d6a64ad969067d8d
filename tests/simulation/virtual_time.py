"""An event loop whose time is simulated: nothing ever waits, and a seed decides the schedule.

Ready callbacks run in a shuffled order, which is what a busy machine may do to
tasks that are ready together. (Callbacks of one task keep their order by
themselves, because a task schedules its next step only when it has run.)
"""

from __future__ import annotations

import asyncio
import collections
import random
import selectors
from typing import Any


class _NoWaiting(selectors.SelectSelector):
    """Advances the loop's time instead of waiting for it to pass."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("deadlock: every task waits and no timer is set")
        self.loop.virtual_time += timeout
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self, rng: random.Random) -> None:
        selector = _NoWaiting()
        super().__init__(selector)
        selector.loop = self
        self.virtual_time = 1000.0
        self._rng = rng

    def time(self) -> float:
        return self.virtual_time

    def _run_once(self) -> None:
        ready = list(self._ready)  # type: ignore[has-type]
        if len(ready) > 1:
            self._rng.shuffle(ready)
            self._ready = collections.deque(ready)
        super()._run_once()  # type: ignore[misc]


class LoopClock:
    """The `Clock` of a simulated loop; the wall clock begins at a fixed date."""

    began = 0.0

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return 1_767_225_600.0 + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()

    def boottime(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
