"""Lifetimes of streams: the age at which a client has to connect again."""

from __future__ import annotations

import math
import random
from collections.abc import Container, Iterator
from heapq import heapify, heappop, heappush

from gateway.streaming.live.subscription import Subscription


class Lifetimes:
    """Ends of the lives of streams, soonest first. A life of 0 seconds has no end."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: list[tuple[float, int, Subscription]] = []

    def begin(self, subscription: Subscription, now: float) -> None:
        """Begin the life of a stream, which may have an end of its own."""
        ends = subscription.ends_at
        if self._seconds:
            # Jittered, so that streams opened together do not all come back together.
            ends = min(ends, now + self._seconds * random.uniform(0.8, 1.0))
        if ends < math.inf:
            subscription.ends_at = ends
            heappush(self._ends, (ends, id(subscription), subscription))

    def over(self, now: float) -> Iterator[Subscription]:
        """Streams whose lives have ended, each once."""
        while self._ends and self._ends[0][0] <= now:
            yield heappop(self._ends)[2]

    def forget_closed(self, open_streams: Container[Subscription], count: int) -> None:
        """Drop closed streams once they are the majority; `count` are open."""
        if len(self._ends) > 2 * count + 1000:
            self._ends = [entry for entry in self._ends if entry[2] in open_streams]
            heapify(self._ends)
