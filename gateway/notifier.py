"""Waiting for conditions, without queues and without lost wake-ups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice

# Tasks woken in one round of the event loop: each may take a tenth of a millisecond.
_AT_ONCE = 25


class Notifier:
    """Wakes all waiting tasks on `notify()`; each checks its own condition.

    Thousands of clients may wait at once: they are woken in parts, one part per round of the event
    loop, the longest waiting first, so that other work has its turn in between.
    """

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], None] = {}

    def notify(self) -> None:
        """Wake the waiting tasks: a condition may have changed."""
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            _wake(iter(waiting))

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Return True as soon as `condition()` holds after `notify()`, False after `seconds`.

        Does not yield if the condition already holds.
        """
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    await self._next()
        except TimeoutError:
            return condition()
        return True

    async def _next(self) -> None:
        woken = asyncio.get_running_loop().create_future()
        waiting = self._waiting
        waiting[woken] = None
        try:
            await woken
        finally:
            # After `notify()` the old set is being iterated, and must not change.
            if waiting is self._waiting:
                waiting.pop(woken, None)


def _wake(waiting: Iterator[asyncio.Future[None]]) -> None:
    part = list(islice(waiting, _AT_ONCE))
    for woken in part:
        if not woken.done():
            woken.set_result(None)
    if len(part) == _AT_ONCE:
        part[0].get_loop().call_soon(_wake, waiting)
