"""Lags of all streams of one process: how far behind each is, and whose peers stall."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable
from operator import itemgetter

from gateway.clock import Clock
from gateway.log.ports import LogExtent
from gateway.streaming.live.group import Shard
from gateway.streaming.live.subscription import Subscription
from gateway.streaming.live.totals import Totals

# A peer stalls that has taken nothing for so long, although bytes wait for it.
STALLED_SECONDS = 5.0
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

    def measure(
        self,
        streams: Collection[Subscription],
        buffered: Iterable[Subscription],
        pending: Iterable[Shard],
        position: int,
    ) -> None:
        """Count all `streams` once. Of the live ones, those of shards with `pending` events are
        behind `position`, and bytes may wait for those `buffered`."""
        now, wall = self._clock.monotonic(), self._clock.now()
        head, heads, lag = self._log.head, self._heads, self._totals.lag
        if not heads or heads[-1][0] < head:
            heads.append((head, now))
            del heads[:-_MOST_HEADS]
        replaying = [one for one in streams if one.shard is None]
        for one in replaying:
            lag.observe(self._lag(one.cursor, now))
        live = len(streams) - len(replaying)
        for shard in pending:
            live -= len(shard)
            lag.observe(max(0.0, wall - shard.pending[0].recorded), len(shard))
        if live:
            lag.observe(self._lag(position, now), live)
        self._totals.stalled = self._count_stalled((*replaying, *buffered), now)

    def _lag(self, position: int, now: float) -> float:
        """Seconds since the first measurement that found events behind the position."""
        place = bisect_right(self._heads, position, key=itemgetter(0))
        return now - self._heads[place][1] if place < len(self._heads) else 0.0

    def _count_stalled(self, streams: Iterable[Subscription], now: float) -> int:
        known, self._taken = self._taken, {}
        for one in streams:
            sink = one.sink
            if not sink.clear:
                taken, since = known.get(one, (-1, now))
                more = sink.waited - sink.unsent
                self._taken[one] = (more, now) if more > taken else (taken, since)
        return sum(now - since >= STALLED_SECONDS for _, since in self._taken.values())
