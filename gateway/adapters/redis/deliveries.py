"""`Deliveries` over Redis: charged locally at once, synchronised in the background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.access.limits.delivery_limits import Bucket, Buckets, Part
from gateway.access.limits.limits import Daily, Limit, day_of
from gateway.adapters.redis.limits import DAY_MILLISECONDS, per_micro
from gateway.adapters.redis.link import Link, Rounds
from gateway.adapters.redis.scripts import CHARGE, ScriptCall
from gateway.clock import Clock

SYNC_SECONDS = 0.1
# Part of a burst or a day that one replica may deliver before it synchronises at once.
_UNTOLD_PART = 20


class RedisDeliveries:
    """`Deliveries` of all replicas on one Redis.

    While Redis is down each replica delivers at the full rate on its own, whatever the policy: an
    outage does not stop accepted deliveries. They are charged when Redis is back.
    """

    def __init__(self, link: Link, clock: Clock, server_time: bool = True) -> None:
        self._link = link
        self._clock = clock
        self._server_time = server_time
        self._buckets = Buckets(clock, self._new, self._taken)
        self._untold: dict[Bucket, None] = {}
        self._told: dict[Bucket, list[tuple[Part, int]]] = {}
        self._rounds = Rounds(link, self._ask, self._hear, self._miss)

    def of(
        self, subject: str, *, events: Sequence[Limit] = (), size: Sequence[Limit] = ()
    ) -> Bucket:
        return self._buckets.of(subject, events=events, size=size)

    async def sync(self) -> None:
        """Report local deliveries, and learn those of the other replicas."""
        if self._link.up:
            untold, self._untold = self._untold, {}
            for bucket in untold:
                self._rounds.add(bucket)
        await self._rounds.settled()

    async def run(self) -> None:
        """Synchronise with the other replicas, until cancelled."""
        while True:
            await self._clock.sleep(SYNC_SECONDS)
            await self.sync()

    def _new(self, bucket: Bucket) -> None:
        if self._link.up and bucket.parts:
            # Learn the deliveries of other replicas before its second batch.
            self._rounds.add(bucket)

    def _taken(self, bucket: Bucket) -> None:
        self._untold[bucket] = None
        if self._link.up and any(
            part.unsent * _UNTOLD_PART >= part.limit.capacity for part in bucket.parts.values()
        ):
            del self._untold[bucket]
            self._rounds.add(bucket)

    # Rounds

    def _ask(self, bucket: Bucket) -> ScriptCall:
        wall = self._clock.now()
        keys: list[str] = []
        arguments: list[str | int | float] = ["" if self._server_time else round(wall * 1_000_000)]
        told = self._told[bucket] = []
        for name, part in bucket.parts.items():
            key = f"{self._link.prefix}:{{{bucket.subject}}}:limit:{name}"
            daily = isinstance(part.limit, Daily)
            keys.append(f"{key}:{day_of(wall)}" if daily else key)
            rate = 0 if isinstance(part.limit, Daily) else per_micro(part.limit)
            arguments += [rate, DAY_MILLISECONDS, part.unsent]
            told.append((part, part.unsent))
            part.unsent = 0
        return ScriptCall(CHARGE, keys, arguments)

    def _hear(self, bucket: Bucket, answer: Any) -> None:
        for (part, _), level in zip(self._told.pop(bucket), answer, strict=True):
            # The answer lacks what was delivered since the call.
            part.state.level = float(level) + part.unsent
            part.state.at = part.limit.time(self._clock)

    def _miss(self, bucket: Bucket) -> None:
        for part, amount in self._told.pop(bucket, ()):
            part.unsent += amount
        self._untold[bucket] = None
