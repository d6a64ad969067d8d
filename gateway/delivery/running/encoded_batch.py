"""Batches of encoded events, and the right to send them."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple, cast

from gateway.delivery.batch_machine import Attempt, BatchMachine
from gateway.delivery.definition import DestinationBatch, seconds_of, size_of
from gateway.delivery.outlets.outlet import (
    EncodedEvent,
    OutboundEvent,
    Outlet,
    OutletLimits,
    offset_of,
)
from gateway.delivery.reduction import encode_within_limits, reduce

# Least share of its wait after which a batch is due: those of many destinations, which all begin
# with the same event, are not to be encoded and sent in one moment. It is more than what passes
# before all that belongs into the batch is read (`gateway.delivery.running.stream`).
_SOONEST = 0.9


class EncodedBatch(NamedTuple):
    """Encoded events in order, None for those that fit in no form; and all as native JSON."""

    events: Sequence[EncodedEvent | None]
    lines: Sequence[bytes]

    def offset(self, index: int) -> int:
        """Offset of an event."""
        return offset_of(self.lines[index])

    @property
    def whole(self) -> Sequence[EncodedEvent]:
        """All events, of a batch of which each fits."""
        return cast(Sequence[EncodedEvent], self.events)

    @property
    def fits(self) -> bool:
        """Whether each event fits."""
        return None not in self.events

    def sent_by(self, attempt: Attempt, outlet: Outlet) -> Sequence[EncodedEvent]:
        """Events of an attempt, in the form that it asks for."""
        if not attempt.reduced and len(attempt.indices) == len(self.events):
            # None of them is unsendable then. The same object, as it was staged.
            return self.whole
        events = [event for at in attempt.indices if (event := self.events[at]) is not None]
        if not attempt.reduced:
            return events
        smaller = [reduce(event.outbound) for event in events]
        return [EncodedEvent(one.json, outlet.encode(one), one.reduced) for one in smaller]

    def machine(self, ordered: bool, refused_before: int) -> BatchMachine:
        """Machine that decides over this batch."""
        unsendable: dict[int, str] = {}
        if not self.fits:
            unsendable = {at: "too_large" for at, event in enumerate(self.events) if event is None}
        return BatchMachine(
            len(self.events), self.can_reduce, unsendable, ordered=ordered,
            refused_before=refused_before,
        )  # fmt: skip

    def can_reduce(self, index: int) -> bool:
        """Whether an event has members that may leave."""
        event = self.events[index]
        if event is None:
            return False
        outbound = event.outbound
        return reduce(outbound) is not outbound


class DeliveryLease:
    """Right to deliver, until a moment of `boottime`; the holder of the row prolongs it."""

    def __init__(self, generation: int, until: float) -> None:
        self.generation = generation
        self.until = until


class SentEvents(NamedTuple):
    """What is counted of events once the receiver has them; `cursors` are of those that somebody
    waits for one by one."""

    events: int
    size: int
    reduced: int
    cursors: Sequence[str] = ()

    @classmethod
    def of(cls, events: Sequence[EncodedEvent], refused: int) -> SentEvents:
        """Of these events, but so many that the receiver refused without naming them."""
        size = sum([len(one.body) for one in events])
        reduced = len([one for one in events if one.reduced])
        return cls(len(events) - refused, size, reduced)


class OpenBatch:
    """Batch that is being filled, and is due some time after its first event came."""

    def __init__(self, outlet: Outlet, batch: DestinationBatch) -> None:
        self._outlet = outlet
        self._most_events, self._most_bytes, self.max_wait = batch_bounds(batch, outlet.limits)
        # Bytes of the bodies.
        self.size = 0
        self._begin()

    def __len__(self) -> int:
        return len(self._lines)

    def left(self, now: float) -> float:
        """Seconds until it is due; there has to be an event in it."""
        return self._due - now

    def take(self, waiting: deque[bytes], most: int, since: float) -> int:
        """Take events from what waits, at most so many and until it is full, and encode them;
        return how many. They came at the moment `since`, or later."""
        outlet, events, lines = self._outlet, self._events, self._lines
        before = len(lines)
        if not lines:
            self._due = since + self.max_wait * random.uniform(_SOONEST, 1)
        room = min(most, len(waiting), self._most_events - before)
        if outlet.verbatim and self._take_verbatim(waiting, room):
            return room
        for _ in range(room):
            encoded = encode_within_limits(outlet, OutboundEvent(waiting[0]))
            more = 0 if encoded is None else len(encoded.body)
            if lines and self.size + more > self._most_bytes:
                # It is to be the first of the next batch.
                self.full = True
                break
            events.append(encoded)
            lines.append(waiting.popleft())
            self.size += more
        else:
            self.full = len(lines) >= self._most_events
        return len(lines) - before

    def _take_verbatim(self, waiting: deque[bytes], count: int) -> bool:
        """Take so many events at once, if all of them fit and no look at each is needed."""
        lines = list(islice(waiting, count))
        sizes = list(map(len, lines))
        size = self.size + sum(sizes)
        if size > self._most_bytes or max(sizes, default=0) > self._outlet.limits.max_event_bytes:
            return False
        self._events += map(EncodedEvent, lines, lines)
        self._lines += lines
        self.size = size
        for _ in lines:
            waiting.popleft()
        self.full = len(self._lines) >= self._most_events
        return True

    def close(self) -> EncodedBatch:
        """What is in it; it begins anew."""
        closed = EncodedBatch(self._events, self._lines)
        self._begin()
        return closed

    def _begin(self) -> None:
        self._events: list[EncodedEvent | None] = []
        self._lines: list[bytes] = []
        self.size, self._due = 0, 0.0
        # Whether the next event belongs into the next batch.
        self.full = False


def batch_bounds(batch: DestinationBatch, limits: OutletLimits) -> tuple[int, int, float]:
    """Most events, bytes and seconds of a batch: what is asked for, within what the type takes."""
    events = batch.max_events if isinstance(batch.max_events, int) else limits.max_events
    size = limits.max_bytes
    if isinstance(batch.max_bytes, int | str):
        size = size_of(batch.max_bytes, "batch.max_bytes")
    wait = limits.max_wait
    if isinstance(batch.max_wait, str):
        wait = seconds_of(batch.max_wait, "batch.max_wait")
    return min(events, limits.max_events), min(size, limits.max_bytes), wait
