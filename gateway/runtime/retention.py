"""Retention: deletes old or surplus events, a few at a time."""

from __future__ import annotations

import logging

from gateway.access.keys.key_store import Notes
from gateway.cursor import advance
from gateway.errors import GatewayError
from gateway.log.ports import Log, RetentionExceeded
from gateway.oversight.clock_store import move_horizon
from gateway.trusted_clock import TrustedClock

_PAUSE_SECONDS = 10.0
_LOGGER = logging.getLogger(__name__)


class Retention:
    """Deletion by `age` in seconds and `size` in bytes of stored JSON; 0 is no limit.

    One wrong clock reading deletes nothing: age is measured by a horizon that is kept in the store
    and advances at a limited rate, whatever the clocks do.
    """

    def __init__(self, log: Log, store: Notes, clock: TrustedClock, *, age: int, size: int) -> None:
        self._log = log
        self._store = store
        self._clock = clock
        self._age = age
        self._size = size
        # Time up to which the horizon has been advanced.
        self._counted = clock.boottime()

    async def run(self) -> None:
        """Delete until cancelled; returns at once if nothing is ever deleted."""
        while self._age or self._size:
            try:
                deleted = await self.step()
            except GatewayError as error:
                _LOGGER.warning("retention failed, trying again: %s", error.detail)
                deleted = 0
            if not deleted:
                await self._clock.sleep(_PAUSE_SECONDS)

    async def step(self) -> int:
        """Delete some of the events that are due; return how many."""
        before = await self._horizon() if self._age else None
        if before is None and not self._size:
            return 0
        return await self._log.trim(before, self._size or None)

    async def _horizon(self) -> int | None:
        oldest = await self._oldest()
        boottime, now = self._clock.boottime(), self._clock.now()
        horizon = await move_horizon(
            self._store,
            target=int((now - self._age) * 1_000_000),
            now=now,
            observed=max(0.0, boottime - self._counted),
            oldest=oldest,
        )
        self._counted = boottime
        return horizon

    async def newest(self) -> float:
        """Time when the newest event was recorded, in seconds since 1970; 0 without events."""
        head = self._log.head
        if head <= self._log.floor:
            return 0.0
        return await self._recorded_at(advance(head, -1)) / 1_000_000

    async def _oldest(self) -> int | None:
        """Time when the oldest event was recorded, in microseconds; None without events."""
        floor = self._log.floor
        try:
            return await self._recorded_at(floor) if self._log.head > floor else None
        except RetentionExceeded:
            # Another gateway has just deleted it; the next step finds another.
            return None

    async def _recorded_at(self, after: int) -> int:
        page = await self._log.read(after, advance(after, 1), limit=1)
        return page.events[0].recorded_at()
