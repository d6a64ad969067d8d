"""Looks at once: places for requests that look at much of the log, few for each key.

A look that would be short takes no place (`FREE_OFFSETS`): to wait would cost it more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.clock import Clock
from gateway.errors import TooManyRequests
from gateway.histogram import Histogram
from gateway.looking.bounds import KINDS, Look, LookBounds, LookKind
from gateway.notifier import Notifier
from gateway.settings.look import LookSettings

# Offsets that a look may look at without a place.
FREE_OFFSETS = 10_000
# Bounds of offsets, for the histogram of looks.
OFFSETS = (10_000.0, 200_000.0, 2_000_000.0)


class Looks:
    """Looks of one process: their places, and what they were."""

    def __init__(self, bounds: LookBounds, clock: Clock) -> None:
        self.bounds = bounds
        self.done: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.offsets = {kind: Histogram(OFFSETS) for kind in KINDS}
        self.refused = 0
        self._clock = clock
        self._taken: Counter[str] = Counter()
        self._freed = Notifier()

    @classmethod
    def of(cls, settings: LookSettings, clock: Clock) -> Looks:
        """Looks within the bounds of the settings."""
        bounds = LookBounds(
            offsets=settings.offsets,
            viewed=settings.viewed_events,
            rendered=settings.rendered_events,
            seconds=float(settings.seconds),
            answer_bytes=settings.answer_bytes,
            of_key=settings.key_at_once,
            at_once=settings.at_once,
            wait_seconds=float(settings.wait),
        )
        return cls(bounds, clock)

    def look(self, key_id: str, kind: LookKind) -> PlacedLook:
        """A look of a key, to be used as a context manager; it has no place yet."""
        return PlacedLook(self, key_id, kind)

    async def take(self, key_id: str) -> None:
        """Take a place, and wait for it if need be. Raises `TooManyRequests` after a while."""
        if not await self._freed.until(lambda: self._has_room(key_id), self.bounds.wait_seconds):
            self.refused += 1
            raise TooManyRequests(
                "as many requests as may look at much of the log at once are under way, of this "
                "key or of all; come again, or narrow what you ask for with since, until and "
                "selectors",
                code="busy",
                retry_after=max(1, round(self.bounds.seconds)),
            )
        self._taken[key_id] += 1

    def give_back(self, key_id: str) -> None:
        """Give a place back to those who wait."""
        self._taken[key_id] -= 1
        if not self._taken[key_id]:
            del self._taken[key_id]
        self._freed.notify()

    def _has_room(self, key_id: str) -> bool:
        taken = self._taken
        return taken[key_id] < self.bounds.of_key and taken.total() < self.bounds.at_once

    @asynccontextmanager
    async def whole(self, key_id: str) -> AsyncIterator[None]:
        """Hold a place for work that looks at much of the log, whatever it finds."""
        await self.take(key_id)
        try:
            yield
        finally:
            self.give_back(key_id)

    def note(self, look: Look) -> None:
        """Count a look that has ended, for the metrics."""
        self.done[look.kind] += 1
        self.cut[look.kind] += look.cut
        self.offsets[look.kind].observe(look.offsets)


class PlacedLook(Look):
    """Look that takes a place among those of its key, once it is no longer short."""

    __slots__ = ("_clock", "_key_id", "_looks", "_placed")

    def __init__(self, looks: Looks, key_id: str, kind: LookKind) -> None:
        super().__init__(kind, looks.bounds)
        self._looks, self._clock, self._key_id = looks, looks._clock, key_id
        self._placed = False

    def __enter__(self) -> PlacedLook:
        self.begin(self._clock.monotonic())
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        self._looks.note(self)

    async def go_on(self) -> bool:
        """Whether the look may go on; it waits for a place first if it has none and is not short.
        Raises `TooManyRequests` if there is none for long."""
        if self.is_over(self._clock.monotonic()):
            return False
        if self.offsets >= FREE_OFFSETS and not self._placed:
            await self.place()
        return True

    async def place(self) -> None:
        """Take a place, and wait for it if need be; the wait is no part of the look's time."""
        if self._placed:
            return
        self.end(self._clock.monotonic())
        await self._looks.take(self._key_id)
        self._placed = True
        self.begin(self._clock.monotonic())

    def leave(self) -> None:
        """Give the place back, and stop the time: nothing is looked at until `resume`."""
        self.end(self._clock.monotonic())
        if self._placed:
            self._placed = False
            self._looks.give_back(self._key_id)

    def resume(self) -> None:
        """Look again, after `leave`."""
        self.begin(self._clock.monotonic())
