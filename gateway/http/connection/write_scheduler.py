"""Scheduler of writes: streams that are behind write one piece per round of the event loop.

Dozens of readers that catch up take as many bytes as they can get. If each wrote as soon as its
peer has room, one round of the event loop would last as long as all of them together, and live
events would wait for several rounds. In turns, a live event waits for one piece at most; while live
events are written, turns are rare.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

# Pause between turns while live events are written: turns get a twentieth of the time.
_PAUSE_SECONDS = 0.002


class WriteScheduler:
    """Scheduler of writes, first come, first served, one per round of the event loop. `busy`:
    whether more urgent work goes on; `timer` is how long the event loop has worked."""

    def __init__(
        self, busy: Callable[[], bool], timer: Callable[[], float] = time.thread_time
    ) -> None:
        # How long it has worked in turns.
        self.seconds = 0.0
        self._scheduled: deque[Callable[[], None]] = deque()
        self._busy = busy
        self._timer = timer

    def schedule(self, call: Callable[[], None]) -> None:
        """Call `call` once, in its turn."""
        self._scheduled.append(call)
        if len(self._scheduled) == 1:
            self._call_next()

    def _run_first(self) -> None:
        began = self._timer()
        # It stays queued while called, so that scheduling it again starts no second chain.
        try:
            self._scheduled[0]()
        finally:
            self.seconds += self._timer() - began
            self._scheduled.popleft()
            if self._scheduled:
                self._call_next()

    def _call_next(self) -> None:
        loop = asyncio.get_running_loop()
        if self._busy():
            loop.call_later(_PAUSE_SECONDS, self._run_first)
        else:
            loop.call_soon(self._run_first)
