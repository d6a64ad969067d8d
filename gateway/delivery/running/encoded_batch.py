"""Batch of encoded events, and the right to send it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.delivery.outlets.outlet import EncodedEvent
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
