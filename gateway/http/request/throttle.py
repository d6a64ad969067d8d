"""Keys that the detector has throttled: a few requests a minute and no stream, until it is over."""

from __future__ import annotations

import math

from gateway.access.keys.key import Key
from gateway.access.limits.limits import BucketState, Rate
from gateway.clock import Clock
from gateway.errors import TooManyRequests

RATE = Rate("throttled", 6, 60, burst=2)


class Throttle:
    """Counts the requests of throttled keys, in this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, BucketState] = {}

    def check(self, key: Key) -> None:
        """Raise `TooManyRequests` if the key is throttled and has had its requests."""
        if key.throttled_until is None or not key.throttled(self._clock.now()):
            if self._buckets:
                self._buckets.pop(key.id, None)
            return
        now = self._clock.monotonic()
        state = self._buckets.setdefault(key.id, BucketState(0.0, now))
        if not RATE.take(state, 1, now):
            wait = RATE.decision(state, False, 1, source="local").retry_after
            raise _refusal(wait)

    def refuse(self, key: Key) -> None:
        """Raise `TooManyRequests` if the key is throttled, until it is no longer."""
        now = self._clock.now()
        if key.throttled(now):
            raise _refusal((key.throttled_until or now) - now)


def _refusal(wait: float) -> TooManyRequests:
    return TooManyRequests(
        "this key is throttled for a while, because of unusual activity; ask who answers for it",
        code="key_throttled",
        retry_after=max(1, math.ceil(wait)),
    )
