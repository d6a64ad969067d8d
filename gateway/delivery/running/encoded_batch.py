"""Batch of encoded events, and the right to send it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.delivery.definition import DestinationBatch, seconds_of, size_of
from gateway.delivery.outlets.outlet import EncodedEvent, OutletLimits
from gateway.delivery.reduction import reduce


class EncodedBatch(NamedTuple):
    """Encoded events in order; None for those that fit in no form."""

    events: Sequence[EncodedEvent | None]
    offsets: Sequence[int]
    cursors: Sequence[str]
    lines: Sequence[bytes]

    def can_reduce(self, index: int) -> bool:
        """Whether an event has members that may leave."""
        event = self.events[index]
        return event is not None and reduce(event.outbound) is not event.outbound


class DeliveryLease:
    """Right to deliver, until a moment of `boottime`; the holder of the row prolongs it."""

    def __init__(self, generation: int, until: float) -> None:
        self.generation = generation
        self.until = until


class Unconfirmed:
    """Events that were sent, and what to ask whether the receiver has them. `offset` is how far the
    position moves then; None if it does not."""

    def __init__(self, receipt: object, events: Sequence[EncodedEvent]) -> None:
        self.receipt = receipt
        self.events = events
        self.offset: int | None = None


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
