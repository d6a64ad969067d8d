"""Ports to what replicas share, and what every adapter promises.

One contract suite (`tests/contract`) runs over both adapters: in process, for a gateway that runs
alone, and over Redis. All of it is advisory: no event, no key and no revocation depends on it, and
no call ever waits for Redis longer than a short, stated time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from gateway.access.limits.delivery_limits import Deliveries
from gateway.access.limits.limits import Concurrency, Decision, Limit
from gateway.access.usage.meter import Meter


class RequestLimits(Protocol):
    """Limits on how often: requests, new streams, failed authentications, daily quotas.

    Ordering: decisions about one subject are made one after the other, by all replicas together.
    Atomicity: a cost is taken whole or not at all. Durability: none is promised; a restart of the
    server forgets at worst one burst (and, without its append-only file, the day so far). A replica
    may take up to 1 % of a limit ahead, and remembers a refusal until it can change, so that
    refused requests cost no look-up.
    """

    async def take(self, limit: Limit, subject: str, cost: int = 1) -> Decision:
        """Take `cost` of what the subject has left. A cost of 0 only asks whether 1 would fit."""


class Lease:
    """One place of a `Concurrency` limit, given back once."""

    __slots__ = ("_give_back",)

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def release(self) -> None:
        """Give the place back; a second call does nothing."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


class Leases(Protocol):
    """Limits on how many at the same time: concurrent streams.

    Ordering: places are given in the order of the requests at the server. Atomicity: never more
    than the limit are given, by all replicas together, except after the server was away.
    Durability: a replica renews its places; those of a crashed one are free after `lease_seconds`.
    A place that is given back is free for other replicas within a tenth of a second.
    """

    async def acquire(self, limit: Concurrency, subject: str) -> Lease | Decision:
        """Take a place, or return the refusal."""


class Signals(Protocol):
    """Wake-ups: hints to poll now, which may be lost.

    Ordering: none. Atomicity: several may arrive as one. Durability: none, but after a connection
    was lost every listener is called once, as one may have been missed. The sender does not hear
    itself.
    """

    def send(self, name: str) -> None:
        """Wake the listeners to `name` on the other replicas. Never waits."""

    def listen(self, name: str, listener: Callable[[], None]) -> None:
        """Call `listener` in the event loop at every wake-up of that name."""


class Health(msgspec.Struct, frozen=True):
    """Counters since the start, and whether the replicas can reach each other now."""

    up: bool = True
    outages: int = 0
    failed_calls: int = 0
    round_trips: int = 0
    local_decisions: int = 0
    closed_decisions: int = 0


@dataclass(frozen=True)
class Shared:
    """All ports of one adapter."""

    limits: RequestLimits
    deliveries: Deliveries
    leases: Leases
    usage: Meter
    signals: Signals
    health: Callable[[], Health]
