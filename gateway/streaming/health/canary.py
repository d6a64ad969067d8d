"""Canary: the inner subscriber of a tail, which measures delivery also when nobody is connected."""

from __future__ import annotations

from collections import deque

from gateway.clock import Clock
from gateway.event import Event
from gateway.histogram import Histogram
from gateway.log.ports import LogExtent

# How often an event is read for the canary alone.
_EVERY_SECONDS = 1.0
# Heads that are remembered: the first of them tells how late it is.
_MOST_HEADS = 240


class Canary:
    """Subscriber that lives within the process: it takes the first event of each page that the
    tail hands on, and where no stream is live one event a second, which is read for it alone.

    An event has reached it when its page was read and matched, the delivery gate was open, and the
    first write behind that was done.
    """

    def __init__(self, log: LogExtent, clock: Clock) -> None:
        # From the recording of an event until it was handed over.
        self.seconds = Histogram()
        # Everything up to here was handed over, or nobody waited for it.
        self.position = log.head
        self._log = log
        self._clock = clock
        self._due = clock.monotonic()
        # Heads of the log beyond the position, and when each was seen first.
        self._heads: deque[tuple[int, float]] = deque()

    @property
    def wants_event(self) -> bool:
        """Whether the next event is to be read though no stream is live."""
        return self._clock.monotonic() >= self._due

    def hand_over(self, first: Event, reached: int) -> None:
        """Take a page by its first event; all up to `reached` was handed over with it."""
        try:
            recorded = first.recorded_at() / 1_000_000
        except ValueError:
            # As for streams: a row that somebody has spoilt says nothing of the time.
            recorded = self._clock.now()
        self.seconds.observe(max(0.0, self._clock.now() - recorded))
        self._due = self._clock.monotonic() + _EVERY_SECONDS
        self.move_to(reached)

    def move_to(self, position: int) -> None:
        """Note that nobody waits for events up to a position."""
        self.position = position
        while self._heads and self._heads[0][0] <= position:
            self._heads.popleft()

    def look(self) -> None:
        """Look at the head of the log. Call about once a second."""
        head, newest = self._log.head, self._heads[-1][0] if self._heads else self.position
        if head > newest and len(self._heads) < _MOST_HEADS:
            self._heads.append((head, self._clock.monotonic()))

    @property
    def behind(self) -> float:
        """For how many seconds an event has been seen in the log that was not handed over."""
        return self._clock.monotonic() - self._heads[0][1] if self._heads else 0.0
