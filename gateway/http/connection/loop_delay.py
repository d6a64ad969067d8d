"""Delay of the event loop: a histogram, and the longest of late."""

from __future__ import annotations

from gateway.clock import Clock, until_next_poll
from gateway.histogram import Histogram
from gateway.http.connection.connections import Connections

# In seconds.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# Shorter than the promised bound, so that each longer delay is seen. A gateway without connections
# spends most of its processor time on these wake-ups.
_EVERY_SECONDS = 0.05
_LONG_SECONDS = 3600.0
# The longest delay covers the running minute and the one before, for scrapes once a minute.
_WINDOW_SECONDS = 60.0


class LoopDelay:
    """Measurement of how late a short sleep ends."""

    def __init__(self) -> None:
        self.seconds = Histogram(BOUNDS)
        self._since = 0.0
        self._longest = self._longest_before = 0.0

    async def run(self, clock: Clock, connections: Connections) -> None:
        """Measure until cancelled, while there are connections."""
        while True:
            while not connections.open:
                await connections.entered.until(lambda: connections.open > 0, _LONG_SECONDS)
            pause = until_next_poll(clock, _EVERY_SECONDS)
            due = clock.monotonic() + pause
            await clock.sleep(pause)
            now = clock.monotonic()
            self.observe(now - due, now)

    def observe(self, seconds: float, now: float) -> None:
        """Count a delay that ended at `now`."""
        seconds = max(0.0, seconds)
        self.seconds.observe(seconds)
        if now - self._since >= _WINDOW_SECONDS:
            self._longest_before = self.longest(now)
            self._since, self._longest = now, 0.0
        self._longest = max(self._longest, seconds)

    def longest(self, now: float) -> float:
        """Longest delay of the last one to two minutes, in seconds."""
        if now - self._since >= 2 * _WINDOW_SECONDS:
            return 0.0
        if now - self._since >= _WINDOW_SECONDS:
            return self._longest
        return max(self._longest, self._longest_before)
