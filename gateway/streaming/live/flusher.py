"""Flusher of the hub: writes what live shards have pending, some hundred members at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from gateway.access.usage.meter import Meter
from gateway.clock import Clock
from gateway.event import Event
from gateway.streaming.live.group import MOST_MEMBERS, EventBatch, Shard
from gateway.streaming.live.matching import Matches
from gateway.streaming.live.subscription import Subscription
from gateway.streaming.live.totals import Totals, TransportTotals

# Batches that a shard may have pending before the tail waits, as the store is the queue, not
# this process.
_MOST_PENDING = 128
_BATCH_EVENTS = 100
# Bytes for each member at once. More would overflow the buffers of peers that keep up.
_FLUSH_BYTES = 64 << 10
# Writing never takes so long: a shard that waits longer was forgotten, which is a bug.
_OVERDUE_SECONDS = 5.0
# How long the load is measured for joining, and the shares of that time for which the loop works,
# and for which it writes to streams: up to the first nothing waits, from the second on events wait
# longest.
_MEASURED_SECONDS = 0.05
_WORKING, _WRITING = (0.75, 0.95), (0.2, 0.5)
# Part of the window that a shard waits which got several events at once, whatever the load.
_SEVERAL = 0.4


class JoiningWindow:
    """How long a shard that was written to waits for further events. Pure.

    It begins where the event loop works most of the time and writes to streams for a good part of
    that: larger writes make no room where something else keeps the loop busy.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._from = self._worked = self._written = self._part = 0.0

    def seconds(self, now: float, worked: float, written: float, count: int) -> float:
        """The window at `now` behind a write of `count` events, where the loop has worked for so
        many seconds in all, and written for some of them."""
        passed = now - self._from
        if passed >= _MEASURED_SECONDS:
            working = _within((worked - self._worked) / passed, *_WORKING)
            self._part = min(working, _within((written - self._written) / passed, *_WRITING))
            self._from, self._worked, self._written = now, worked, written
        return self._longest * max(self._part, _SEVERAL if count > 1 else 0.0)


def _within(share: float, low: float, high: float) -> float:
    """Where a share lies between two others, from 0 to 1."""
    return min(1.0, max(0.0, (share - low) / (high - low)))


class Flusher:
    """Shards of one hub with pending events, in the order in which they are written to.

    `write` writes to all members of a shard; `move_to_replay` lets a member go on from the store.
    `joining` is how many seconds a shard that was written to waits for more events at the longest,
    and `worked` how many the event loop has worked in all.
    """

    def __init__(
        self,
        clock: Clock,
        joining: float,
        worked: Callable[[], float],
        totals: Totals,
        usage: Meter | None,
        write: Callable[[Shard, bytes], None],
        move_to_replay: Callable[[Subscription], None],
    ) -> None:
        self._clock = clock
        self._worked = worked
        self._window = JoiningWindow(joining)
        # Seconds of the event loop that writing took.
        self._written_seconds = 0.0
        self._totals = totals
        self._usage = usage
        self._write = write
        self._move_to_replay = move_to_replay
        self._shards: deque[Shard] = deque()
        self._full: set[Shard] = set()
        # Deliveries of one flush that are observed together, their transport, and their page's age.
        self._deliveries = 0
        self._written = TransportTotals()
        self._recorded = 0.0

    @property
    def keeps_up(self) -> bool:
        """Whether no shard has so much pending that what is new can wait in the store."""
        return not self._full

    @property
    def writing(self) -> bool:
        """Whether a shard has events pending."""
        return bool(self._shards)

    def overdue(self) -> int:
        """Number of live streams for which events have been pending for seconds: a bug, if any."""
        since = self._clock.monotonic() - _OVERDUE_SECONDS
        return sum(
            len(shard) for shard in self._shards if shard.pending and shard.pending_since < since
        )

    def add(self, found: Matches, position: int, page: Sequence[Event]) -> None:
        """Append what each group gets of a page to what its shards have pending. Members of a shard
        without any are at `position`."""
        if not found:
            return
        same: dict[tuple[int, ...], list[EventBatch]] = {}
        now = self._clock.monotonic()
        try:
            recorded = page[0].recorded_at() / 1_000_000
        except ValueError:
            recorded = self._clock.now()
        for group, chosen in found.items():
            # Groups with the same events and masks share the encoding, too.
            identity = tuple(map(id, chosen))
            batches = same.get(identity)
            if batches is None:
                batches = same[identity] = [
                    EventBatch(chosen[begin : begin + _BATCH_EVENTS], recorded)
                    for begin in range(0, len(chosen), _BATCH_EVENTS)
                ]
            for shard in group.shards:
                if not shard.pending:
                    shard.begin = position
                    shard.pending_since = now
                    self._shards.append(shard)
                shard.pending += batches
                if len(shard.pending) >= _MOST_PENDING:
                    self._full.add(shard)

    def drop(self, shard: Shard) -> None:
        """Drop what is pending for a shard without members."""
        shard.pending.clear()
        self._full.discard(shard)

    def flush(self, position: int) -> float | None:
        """Write what is pending to some shards; those with nothing more are then at `position`.

        Return the seconds until it is worth calling again, None if nothing is pending.
        """
        if not self._shards:
            return None
        written = 0
        wait: float | None = None
        now, began = self._clock.monotonic(), self._worked()
        for _ in range(len(self._shards)):
            shard = self._shards.popleft()
            if shard.pending and shard.due <= now:
                members = len(shard)
                if written and written + members > MOST_MEMBERS:
                    self._shards.appendleft(shard)
                    wait = 0.0
                    break
                written += members
                self._flush(shard, members, now, position)
            if shard.pending:
                self._shards.append(shard)
                due = max(0.0, shard.due - now)
                wait = due if wait is None else min(wait, due)
        self._observe_deliveries()
        self._written_seconds += self._worked() - began
        return wait

    def _flush(self, shard: Shard, members: int, now: float, position: int) -> None:
        recorded = shard.pending[0].recorded
        try:
            data, count = shard.take(_FLUSH_BYTES)
        except Exception:
            # The replay of each member finds the event that fails.
            for subscription in shard.members():
                self._move_to_replay(subscription)
            return
        shard.pending_since = now
        if len(shard.pending) < _MOST_PENDING:
            self._full.discard(shard)
        shard.quiet_since = now
        shard.bookmark = shard.begin if shard.pending else position
        # After several events at once, and under load, there will be more: wait to join them.
        window = self._window.seconds(now, self._worked(), self._written_seconds, count)
        shard.due = now if shard.pending else now + window
        totals, deliveries = self._totals.of(shard.group.interest.wire), count * members
        totals.events += deliveries
        totals.bytes += len(data) * members
        if self._usage is not None:
            for key_id, streams in shard.keys.items():
                self._usage.count(key_id, events=count * streams, size=len(data) * streams)
        self._write(shard, data)
        if recorded != self._recorded or totals is not self._written:
            self._observe_deliveries()
            self._written, self._recorded = totals, recorded
        self._deliveries += deliveries

    def _observe_deliveries(self) -> None:
        if self._deliveries:
            seconds = max(0.0, self._clock.now() - self._recorded)
            self._written.seconds.observe(seconds, self._deliveries)
            self._deliveries = 0
