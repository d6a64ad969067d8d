"""Buckets of many subjects, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from gateway.access.limits.limits import BucketState, Limit
from gateway.clock import Clock

_SWEEP_SECONDS = 1.0


class SubjectBucket:
    """Bucket of one subject in one limit, as this process knows it."""

    __slots__ = ("limit", "state", "subject")

    def __init__(self, limit: Limit, subject: str, now: float) -> None:
        self.limit = limit
        self.subject = subject
        self.state = BucketState(0.0, now)

    def use(self, limit: Limit) -> None:
        """Change to another limit of the same name."""
        self.limit = limit

    def idle(self, clock: Clock) -> bool:
        """Whether forgetting the bucket has no effect."""
        return self.limit.idle_at(self.state) <= self.limit.time(clock)


A = TypeVar("A", bound=SubjectBucket)


class SubjectBuckets(Generic[A]):
    """Buckets by subject; forgets idle ones and, beyond `most`, the oldest."""

    def __init__(
        self, make: Callable[[Limit, str, float], A], clock: Clock, most: int = 200_000
    ) -> None:
        self._make = make
        self._clock = clock
        self._most = most
        self._known: dict[tuple[str, str], A] = {}
        self._sweep_at = 1024
        self._swept = clock.monotonic()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, limit: Limit, subject: str) -> A:
        """The bucket, created if new, under `limit`."""
        identity = (limit.name, subject)
        bucket = self._known.get(identity)
        if bucket is None:
            self._make_room()
            bucket = self._make(limit, subject, limit.time(self._clock))
            self._known[identity] = bucket
        elif bucket.limit is not limit:
            bucket.use(limit)
        return bucket

    def find(self, limit: Limit, subject: str) -> A | None:
        """The bucket, if it exists."""
        return self._known.get((limit.name, subject))

    def _make_room(self) -> None:
        if len(self._known) < self._sweep_at:
            return
        now = self._clock.monotonic()
        if now - self._swept >= _SWEEP_SECONDS:
            # At most once a second: a flood of addresses must not cost a sweep each.
            self._swept = now
            self._known = {
                identity: bucket
                for identity, bucket in self._known.items()
                if not bucket.idle(self._clock)
            }
            self._sweep_at = min(self._most, max(1024, 2 * len(self._known)))
        if len(self._known) >= self._most:
            del self._known[next(iter(self._known))]
