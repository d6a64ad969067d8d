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


class Delivery:
    """Delivery limits of one subject over all its streams. Never waits; kept in sync with other
    replicas in the background."""

    __slots__ = ("__weakref__", "_clock", "_events", "_on_take", "_size", "parts", "subject")

    def __init__(self, subject: str, clock: Clock, on_take: Callable[[Delivery], None]) -> None:
        self.subject = subject
        self.parts: dict[str, Part] = {}
        self._events: list[Part] = []
        self._size: list[Part] = []
        self._clock = clock
        self._on_take = on_take

    def take(self, events: int, size: int) -> float:
        """Count a delivery that was made; return the seconds to wait before the next one (until
        midnight if a daily quota is used up)."""
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
        """Number of events that may be delivered at once now; at least 1."""
        return self._room(self._events)

    def room_bytes(self) -> int:
        """Number of bytes that may be delivered at once now; at least 1."""
        return self._room(self._size)

    def refusal(self) -> Decision | None:
        """State of the limit with the longest wait, if any; `retry_after` is until the next
        delivery."""
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

    def decisions(self) -> dict[str, Decision]:
        """State of each limit, by its name."""
        found = {}
        for part in self.parts.values():
            limit, state = part.limit, part.state
            limit.settle(state, limit.time(self._clock))
            found[limit.name] = limit.decision(state, True, 0, source="local")
        return found

    @property
    def spent(self) -> bool:
        """Whether a daily quota is used up; otherwise the wait is for a rate."""
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


class Deliveries:
    """Limits on what is delivered, per key, in this process; `RedisDeliveries` shares them.

    Ordering and atomicity: deliveries are charged after the fact, all of them, so over time the
    rate is exact; replicas that begin in the same tenth of a second may each begin with a twentieth
    of the burst before they know. Durability: as `RequestLimits`. The limits of a subject with any
    state outlive its last stream, so that reconnecting is no way around a limit.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: WeakValueDictionary[str, Delivery] = WeakValueDictionary()
        self._busy: dict[Delivery, None] = {}
        self._sweep_at = 256

    def __len__(self) -> int:
        return len(self._held)

    def of(
        self, subject: str, *, events: Sequence[Limit] = (), size: Sequence[Limit] = ()
    ) -> Delivery:
        """The one delivery of this process for a subject, with its limits on events and on bytes,
        which replace earlier ones."""
        delivery = self._held.get(subject)
        new = delivery is None
        if delivery is None:
            delivery = self._held[subject] = Delivery(subject, self._clock, self._taken)
        delivery.use(events, size)
        if new:
            self._new(delivery)
        return delivery

    def _new(self, delivery: Delivery) -> None:
        """Called with each new delivery."""

    def _taken(self, delivery: Delivery) -> None:
        """Called after each delivery."""
        if delivery not in self._busy:
            if len(self._busy) >= self._sweep_at:
                self._busy = {busy: None for busy in self._busy if not busy.idle()}
                self._sweep_at = max(256, 2 * len(self._busy))
            self._busy[delivery] = None
