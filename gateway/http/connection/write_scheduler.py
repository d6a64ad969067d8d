"""Turns: writing that is behind goes on one piece a round of the event loop.

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


class Turns:
    """Calls what asks for a turn, in the order of asking, one in each round of the loop.

    `busy` says whether there is something more urgent now.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._asking: deque[Callable[[], None]] = deque()
        self._busy = busy

    def ask(self, go_on: Callable[[], None]) -> None:
        """Have `go_on` called soon, once."""
        self._asking.append(go_on)
        if len(self._asking) == 1:
            self._schedule()

    def _next(self) -> None:
        # It stays in the queue while it is called, so that asking again does not start a second.
        try:
            self._asking[0]()
        finally:
            self._asking.popleft()
            if self._asking:
                self._schedule()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        if self._busy():
            loop.call_later(_PAUSE_SECONDS, self._next)
        else:
            loop.call_soon(self._next)
