"""`Deliveries` over Redis: charged locally at once, synchronised in the background."""

from __future__ import annotations

from typing import Any

from gateway.access.limits.delivery_limits import Deliveries, Delivery, Part
from gateway.access.limits.limits import Daily, day_of
from gateway.adapters.redis.limits import DAY_MILLISECONDS, per_micro
from gateway.adapters.redis.link import Link, Rounds
from gateway.adapters.redis.scripts import CHARGE, ScriptCall
from gateway.clock import Clock

SYNC_SECONDS = 0.1
# Part of a burst or a day that one replica may deliver before it synchronises at once.
_UNTOLD_PART = 20


class RedisDeliveries(Deliveries):
    """`Deliveries` of all replicas on one Redis.

    While Redis is down each replica delivers at the full rate on its own, whatever the policy: an
    outage does not stop accepted deliveries. They are charged when Redis is back.
    """

    def __init__(self, link: Link, clock: Clock, server_time: bool = True) -> None:
        super().__init__(clock)
        self._link = link
        self._server_time = server_time
        self._untold: dict[Delivery, None] = {}
        self._told: dict[Delivery, list[tuple[Part, int]]] = {}
        self._rounds = Rounds(link, self._ask, self._hear, self._miss)

    async def sync(self) -> None:
        """Report local deliveries, and learn those of the other replicas."""
        if self._link.up:
            untold, self._untold = self._untold, {}
            for delivery in untold:
                self._rounds.add(delivery)
        await self._rounds.settled()

    async def run(self) -> None:
        """Synchronise with the other replicas, until cancelled."""
        while True:
            await self._clock.sleep(SYNC_SECONDS)
            await self.sync()

    def _new(self, delivery: Delivery) -> None:
        if self._link.up and delivery.parts:
            # Learn the deliveries of other replicas before its second batch.
            self._rounds.add(delivery)

    def _taken(self, delivery: Delivery) -> None:
        super()._taken(delivery)
        self._untold[delivery] = None
        if self._link.up and any(
            part.unsent * _UNTOLD_PART >= part.limit.capacity for part in delivery.parts.values()
        ):
            del self._untold[delivery]
            self._rounds.add(delivery)

    # Rounds

    def _ask(self, delivery: Delivery) -> ScriptCall:
        wall = self._clock.now()
        keys: list[str] = []
        arguments: list[str | int | float] = ["" if self._server_time else round(wall * 1_000_000)]
        told = self._told[delivery] = []
        for name, part in delivery.parts.items():
            key = f"{self._link.prefix}:{{{delivery.subject}}}:limit:{name}"
            daily = isinstance(part.limit, Daily)
            keys.append(f"{key}:{day_of(wall)}" if daily else key)
            rate = 0 if isinstance(part.limit, Daily) else per_micro(part.limit)
            arguments += [rate, DAY_MILLISECONDS, part.unsent]
            told.append((part, part.unsent))
            part.unsent = 0
        return ScriptCall(CHARGE, keys, arguments)

    def _hear(self, delivery: Delivery, answer: Any) -> None:
        for (part, _), level in zip(self._told.pop(delivery), answer, strict=True):
            # The answer lacks what was delivered since the call.
            part.state.level = float(level) + part.unsent
            part.state.at = part.limit.time(self._clock)

    def _miss(self, delivery: Delivery) -> None:
        for part, amount in self._told.pop(delivery, ()):
            part.unsent += amount
        self._untold[delivery] = None
