"""Delivery limits of keys, on events and on bytes, checked without waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

import msgspec

from gateway.access.limits.limits import BucketState, Daily, Decision, Limit
from gateway.clock import Clock

_MOST_AT_ONCE = 1 << 30


class Part:
    """One limit of a delivery; other replicas have not been told of `unsent`."""

    __slots__ = ("limit", "state", "unsent")

    def __init__(self, limit: Limit, now: float) -> None:
        self.limit = limit
        self.state = BucketState(0.0, now)
        self.unsent = 0


class Bucket:
    """Delivery limits of one subject. Implements `gateway.access.limits.ports.Delivery`."""

    __slots__ = ("__weakref__", "_clock", "_events", "_on_take", "_size", "parts", "subject")

    def __init__(self, subject: str, clock: Clock, on_take: Callable[[Bucket], None]) -> None:
        self.subject = subject
        self.parts: dict[str, Part] = {}
        self._events: list[Part] = []
        self._size: list[Part] = []
        self._clock = clock
        self._on_take = on_take

    def take(self, events: int, size: int) -> float:
        wait = 0.0
        for parts, amount in ((self._events, events), (self._size, size)):
            for part in parts:
                limit, state = part.limit, part.state
                limit.charge(state, amount, limit.time(self._clock))
                part.unsent += amount
                over = limit.seconds_over(state)
                if over > wait:
                    wait = over
        self._on_take(self)
        return wait

    def room(self) -> int:
        return self._room(self._events)

    def room_bytes(self) -> int:
        return self._room(self._size)

    def refusal(self) -> Decision | None:
        longest: Decision | None = None
        for part in self.parts.values():
            limit, state = part.limit, part.state
            limit.settle(state, limit.time(self._clock))
            over = limit.seconds_over(state)
            if over > (longest.retry_after if longest is not None else 0.0):
                found = limit.decision(state, False, 0, source="local")
                # Wait until what was delivered is paid off, not for room for one more.
                longest = msgspec.structs.replace(found, retry_after=over)
        return longest

    @property
    def spent(self) -> bool:
        for part in self.parts.values():
            if isinstance(part.limit, Daily):
                part.limit.settle(part.state, part.limit.time(self._clock))
                if part.limit.seconds_over(part.state):
                    return True
        return False

    def use(self, events: Sequence[Limit], size: Sequence[Limit]) -> None:
        """Change to other limits; those of the same name keep their state."""
        known, self.parts = self.parts, {}
        self._events = [self._part(known, limit) for limit in events]
        self._size = [self._part(known, limit) for limit in size]

    def idle(self) -> bool:
        """Whether forgetting the limits has no effect."""
        return all(
            part.limit.idle_at(part.state) <= part.limit.time(self._clock)
            for part in self.parts.values()
        )

    def _room(self, parts: Sequence[Part]) -> int:
        room = _MOST_AT_ONCE
        for part in parts:
            part.limit.settle(part.state, part.limit.time(self._clock))
            room = min(room, part.limit.room(part.state))
        return max(1, room)

    def _part(self, known: dict[str, Part], limit: Limit) -> Part:
        part = known.get(limit.name)
        if part is None:
            part = Part(limit, limit.time(self._clock))
        part.limit = limit
        self.parts[limit.name] = part
        return part


class Buckets:
    """Buckets of this process. One with any state outlives the last stream of its subject, so that
    reconnecting is no way around a limit."""

    def __init__(
        self,
        clock: Clock,
        on_new: Callable[[Bucket], None] | None = None,
        on_take: Callable[[Bucket], None] | None = None,
    ) -> None:
        self._clock = clock
        self._on_new = on_new
        self._on_take = on_take
        self._held: WeakValueDictionary[str, Bucket] = WeakValueDictionary()
        self._busy: dict[Bucket, None] = {}
        self._sweep_at = 256

    def __len__(self) -> int:
        return len(self._held)

    def of(
        self, subject: str, *, events: Sequence[Limit] = (), size: Sequence[Limit] = ()
    ) -> Bucket:
        """See `gateway.access.limits.ports.Deliveries`."""
        bucket = self._held.get(subject)
        if bucket is not None:
            bucket.use(events, size)
            return bucket
        bucket = self._held[subject] = Bucket(subject, self._clock, self._taken)
        bucket.use(events, size)
        if self._on_new is not None:
            self._on_new(bucket)
        return bucket

    def _taken(self, bucket: Bucket) -> None:
        if bucket not in self._busy:
            if len(self._busy) >= self._sweep_at:
                self._busy = {busy: None for busy in self._busy if not busy.idle()}
                self._sweep_at = max(256, 2 * len(self._busy))
            self._busy[bucket] = None
        if self._on_take is not None:
            self._on_take(bucket)
