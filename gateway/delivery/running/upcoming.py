"""Batches of one session that come next: the one that is filled, and a full one in front of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from gateway.clock import Clock
from gateway.delivery.outlets.outlet import Outlet
from gateway.delivery.running.encoded_batch import EncodedBatch, OpenBatch
from gateway.delivery.running.stream import Inbox
from gateway.notifier import Notifier

# Events that are encoded between two looks at the clock, and seconds until others have their turn.
_AT_ONCE = 128
_TURN_SECONDS = 0.0005


class Upcoming:
    """Encodes what has come for one session. `ready` tells how many of the first lines of the inbox
    are to be delivered, and `leaves` whether the session has to end."""

    def __init__(
        self,
        opened: OpenBatch,
        outlet: Outlet,
        inbox: Inbox,
        clock: Clock,
        woken: Notifier,
        ready: Callable[[], int],
        leaves: Callable[[], bool],
    ) -> None:
        self._opened, self._outlet, self._inbox = opened, outlet, inbox
        self._clock, self._woken = clock, woken
        self._ready, self._leaves = ready, leaves
        self._staged: EncodedBatch | None = None

    def __bool__(self) -> bool:
        """Whether an event is in them."""
        return bool(self._opened) or self._staged is not None

    async def prepare(self, longest: float, most: int) -> None:
        """Fill the next batch while one is on its way, up to so many bytes, and have it prepared
        once it is full."""
        if self._staged is None:
            await self._fill(longest, most)
            if self._opened.full:
                self._staged = self._opened.close()
                if self._staged.fits:
                    self._outlet.stage(self._staged.whole)

    async def next(self, longest: float) -> EncodedBatch | None:
        """The next batch, once it is full or due, or the session has to end; None if there is
        nothing in it. It waits at most so many seconds for the first event."""
        staged, self._staged = self._staged, None
        if staged is not None:
            return staged
        await self._fill(longest, sys.maxsize)
        if not self._opened.full:
            # What has waited for others has time.
            await self._inbox.lull()
        return self._opened.close() if self._opened else None

    async def _fill(self, longest: float, most: int) -> None:
        opened, inbox, clock = self._opened, self._inbox, self._clock
        turn = clock.monotonic()
        while not opened.full and opened.size < most:
            ready = self._ready()
            if not ready:
                left = opened.left(clock.monotonic()) if opened else longest
                if left <= 0 or self._leaves():
                    return
                await self._woken.until(lambda: bool(inbox.lines) or self._leaves(), left)
                continue
            now = clock.monotonic()
            if now - turn >= _TURN_SECONDS:
                await asyncio.sleep(0)
                turn = clock.monotonic()
            opened.take(inbox.lines, min(ready, _AT_ONCE), inbox.since)
            inbox.taken()
