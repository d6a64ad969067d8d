"""Window over the deliveries of the last minute in one process, and whether they are slow. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from operator import sub

from gateway.histogram import SECONDS, quantile

WINDOW_SECONDS = 60
# Slow: of what was delivered in the last so many seconds the slowest hundredth took longer than
# the bound, at each look for a minute. One late event alone is none.
_LOOKED_AT = 30
SLOW_SECONDS = 1.0
_FOR_SECONDS = 60.0
SLOWEST = 0.99


class DeliveryWindow:
    """Deliveries of the last minute, from what was counted at each second's look."""

    def __init__(self) -> None:
        # When deliveries became slow (monotonic seconds), as far as all looks since agree.
        self._over_since: float | None = None
        self._seen: deque[Sequence[float]] = deque(maxlen=WINDOW_SECONDS + 1)

    def look(self, cells: Sequence[float], now: float) -> None:
        """Take the cells of a histogram of all deliveries so far. Call about once a second."""
        self._seen.append(cells)
        slowest = quantile(SECONDS, self._last(_LOOKED_AT), SLOWEST)
        if slowest is None or slowest <= SLOW_SECONDS:
            self._over_since = None
        elif self._over_since is None:
            self._over_since = now

    @property
    def minute(self) -> list[float]:
        """Cells of a histogram of the last minute."""
        return self._last(WINDOW_SECONDS)

    def slow_for(self, now: float) -> float:
        """For how many seconds deliveries have been slow; 0 below a minute."""
        passed = 0.0 if self._over_since is None else now - self._over_since
        return passed if passed >= _FOR_SECONDS else 0.0

    def _last(self, seconds: int) -> list[float]:
        if not self._seen:
            return []
        before = self._seen[max(0, len(self._seen) - 1 - seconds)]
        return list(map(sub, self._seen[-1], before))
