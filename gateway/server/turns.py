"""Turns: writing that is behind goes on one piece a round of the event loop.

Dozens of readers that catch up may take all the bytes they can get. If each
wrote as soon as its peer has room, one round of the event loop would last as
long as all of them together, and whoever is live would wait for several such
rounds. In turns, a live event waits for one piece at the most.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Turns:
    """Calls what asks for a turn, in the order of asking, one in each round of the loop."""

    def __init__(self) -> None:
        self._asking: deque[Callable[[], None]] = deque()

    def ask(self, go_on: Callable[[], None]) -> None:
        """Have `go_on` called soon, once."""
        self._asking.append(go_on)
        if len(self._asking) == 1:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        # It stays in the queue while it is called, so that asking again does not start a second.
        try:
            self._asking[0]()
        finally:
            self._asking.popleft()
            if self._asking:
                asyncio.get_running_loop().call_soon(self._next)
