"""Pacing of deliveries within the delivery limits of a key.

A paced stream never goes live: it reads the store as fast as the limits of its key allow. Nothing
is dropped. Keys without limits have no pacer.
"""

from __future__ import annotations

from typing import Protocol

from gateway.access.limits.delivery_limits import Delivery
from gateway.clock import Clock

# Least wait, so that more is sent together.
_LEAST_SECONDS = 0.1
# Longest wait until asking again, as other replicas report their use meanwhile.
_MOST_SECONDS = 1.0
_FIRST_GUESS = 600


class Pacer(Protocol):
    """Pace of one stream: when to send next, and how much."""

    @property
    def waits(self) -> bool:
        """Whether the stream waits for its pace, and not for the peer."""

    @property
    def given_up(self) -> bool:
        """Whether the wait was so long that the stream is to end."""

    def wait(self) -> float:
        """Seconds to wait before asking again; 0.0 if something may be sent now."""

    def most(self, left: int | None, streams: int) -> int:
        """Number of events to read now, of `left`, for one of so many streams of the key."""

    def sent(self, events: int, size: int) -> None:
        """Count delivered events and bytes."""


class DeliveryPacer:
    """Pacer of one stream of a key with delivery limits: when to send next, and how much."""

    __slots__ = ("_clock", "_delivery", "_each", "_patience", "_spent_at", "waits")

    def __init__(self, delivery: Delivery, clock: Clock, patience: float) -> None:
        self._delivery = delivery
        self._clock = clock
        # How long to wait with a used-up quota, and since when it is used up.
        self._patience = patience
        self._spent_at: float | None = None
        # Whether the stream waits for its limits, and not for the peer.
        self.waits = False
        # Approximate bytes of an event.
        self._each = _FIRST_GUESS

    def wait(self) -> float:
        """Seconds to wait before asking again; 0.0 if something may be sent now."""
        seconds = self._delivery.take(0, 0)
        self.waits = seconds > 0
        if not seconds:
            self._spent_at = None
            return 0.0
        if not self._delivery.spent:
            self._spent_at = None
        elif self._spent_at is None:
            self._spent_at = self._clock.monotonic()
        return min(max(seconds, _LEAST_SECONDS), _MOST_SECONDS)

    @property
    def given_up(self) -> bool:
        """Whether the quota was used up for so long that the stream is to end."""
        if self._spent_at is None:
            return False
        return self._clock.monotonic() - self._spent_at >= self._patience

    def most(self, left: int | None, streams: int) -> int:
        """Number of events to read now: what the key has left, shared by its streams."""
        room = min(self._delivery.room(), self._delivery.room_bytes() // self._each)
        most = max(1, room // max(1, streams))
        return most if left is None else min(most, left)

    def sent(self, events: int, size: int) -> None:
        """Count delivered events and bytes."""
        self._each = max(1, size // events)
        self._delivery.take(events, size)
