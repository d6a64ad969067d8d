"""Scheduler of writing: streams that are behind write one piece a round of the event loop.

Dozens of readers that catch up may take all the bytes they can get. If each
wrote as soon as its peer has room, one round of the event loop would last as
long as all of them together, and whoever is live would wait for several such
rounds. In turns, a live event waits for one piece at the most; and while live
events are being written, there are few turns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

# Between two turns while live events are being written: a twentieth of the time is left to turns.
_PAUSE_SECONDS = 0.002


class WriteScheduler:
    """Scheduler of writes: first come, first served, one in each round of the event loop.

    `busy` says whether something more urgent goes on.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._scheduled: deque[Callable[[], None]] = deque()
        self._busy = busy

    def schedule(self, call: Callable[[], None]) -> None:
        """Have `call()` called once, when it is its turn."""
        self._scheduled.append(call)
        if len(self._scheduled) == 1:
            self._call_next()

    def _run_first(self) -> None:
        # It stays in the queue while it is called, so that scheduling it again starts no
        # second chain of calls.
        try:
            self._scheduled[0]()
        finally:
            self._scheduled.popleft()
            if self._scheduled:
                self._call_next()

    def _call_next(self) -> None:
        loop = asyncio.get_running_loop()
        if self._busy():
            loop.call_later(_PAUSE_SECONDS, self._run_first)
        else:
            loop.call_soon(self._run_first)
