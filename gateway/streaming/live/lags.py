"""Lags of all streams of one process: how far behind each is, and whose peers stall."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from operator import itemgetter

from gateway.clock import Clock
from gateway.histogram import Histogram
from gateway.log.ports import LogExtent
from gateway.scheduling.loop_work import Stretch
from gateway.streaming.live.group import Shard
from gateway.streaming.live.subscription import State, Subscription
from gateway.streaming.live.totals import Totals

# A peer stalls that has taken nothing for so long, although bytes wait for it.
STALLED_SECONDS = 5.0
# Streams looked at before others have their turn, if they need it.
MOST_AT_ONCE = 200
# Earlier heads are behind by more than the last bound of the histogram.
_MOST_HEADS = 240


class Lags:
    """Measures the lags of streams into `totals`."""

    def __init__(self, log: LogExtent, clock: Clock, totals: Totals) -> None:
        self._log = log
        self._clock = clock
        self._totals = totals
        # Head of the log, and since when, for each measurement that found a new one.
        self._heads: list[tuple[int, float]] = []
        # Most bytes that a peer with waiting bytes has taken, and since when.
        self._taken: dict[Subscription, tuple[int, float]] = {}

    async def measure(self, streams: Iterable[Subscription], position: int) -> None:
        """Count each of `streams` once, and publish when all are; the event loop has its turns
        meanwhile. Live ones of which nothing is pending are at `position`."""
        now, wall = self._clock.monotonic(), self._clock.now()
        head, heads, lag = self._log.head, self._heads, Histogram()
        if not heads or heads[-1][0] < head:
            heads.append((head, now))
            del heads[:-_MOST_HEADS]
        live, known = self._lag(position, now), self._taken
        taken: dict[Subscription, tuple[int, float]] = {}
        stalled = 0
        present, stretch = list(streams), Stretch()
        for first in range(0, len(present), MOST_AT_ONCE):
            await stretch.rest()
            part = present[first : first + MOST_AT_ONCE]
            for shard, count in Counter([one.shard for one in part]).items():
                if isinstance(shard, Shard):
                    pending = shard.pending
                    late = max(0.0, wall - pending[0].recorded) if pending else live
                    lag.observe(late, count)
            for one in part:
                if one.shard is None:
                    if one.state is State.ENDED:
                        continue
                    lag.observe(self._lag(one.cursor, now))
                elif one not in one.shard.buffered:
                    continue
                if not one.sink.clear:
                    since = taken[one] = _since(one, known.get(one, (-1, now)), now)
                    stalled += now - since[1] >= STALLED_SECONDS
        self._taken = taken
        self._totals.stalled = stalled
        self._totals.lag.add(lag)

    def stalls(self, subscription: Subscription) -> bool:
        """Whether the peer of a stream had taken nothing for long when it was measured last."""
        known = self._taken.get(subscription)
        return known is not None and self._clock.monotonic() - known[1] >= STALLED_SECONDS

    def _lag(self, position: int, now: float) -> float:
        """Seconds since the first measurement that found events behind the position."""
        place = bisect_right(self._heads, position, key=itemgetter(0))
        return now - self._heads[place][1] if place < len(self._heads) else 0.0


def _since(one: Subscription, known: tuple[int, float], now: float) -> tuple[int, float]:
    """Most bytes that the peer of a stream has taken, and since when."""
    more = one.sink.waited - one.sink.unsent
    return (more, now) if more > known[0] else known
