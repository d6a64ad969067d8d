"""The event loop of a gateway: no round of it takes in more than some sockets.

asyncio serves in one round whatever is ready. When thousands of peers send at the same moment, that
round lasts as long as all of them together, and no timer and no delivery has its turn before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from selectors import DefaultSelector, SelectorKey
from typing import Any

# Sockets that one round serves: some hundredths of a millisecond each.
AT_ONCE = 16


class SomeAtOnce(DefaultSelector):
    """A selector that says of few sockets at a time that they are ready, each in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self._ready: deque[tuple[SelectorKey, int]] = deque()

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
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


def run(work: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run` on such a loop."""
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(work)


def _new_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(SomeAtOnce())
