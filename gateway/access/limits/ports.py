"""Ports to what replicas share, and what every adapter promises.

One contract suite (`tests/contract`) runs over both adapters: in process, for a gateway that runs
alone, and over Redis. All of it is advisory: no event, no key and no revocation depends on it, and
no call ever waits for Redis longer than a short, stated time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from gateway.access.limits.limits import Concurrency, Decision, Limit
from gateway.access.usage.windows import Row


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


class Delivery(Protocol):
    """Delivery limits of one key over all its streams. Never waits; kept in sync with other
    replicas in the background."""

    def take(self, events: int, size: int) -> float:
        """Count a delivery that was made; return the seconds to wait before the next one (until
        midnight if a daily quota is used up)."""

    def room(self) -> int:
        """Number of events that may be delivered at once now; at least 1."""

    def room_bytes(self) -> int:
        """Number of bytes that may be delivered at once now; at least 1."""

    def refusal(self) -> Decision | None:
        """State of the limit with the longest wait, if any; `retry_after` is until the next
        delivery."""

    @property
    def spent(self) -> bool:
        """Whether a daily quota is used up; otherwise the wait is for a rate."""


class Deliveries(Protocol):
    """Limits on what is delivered, per key.

    Ordering and atomicity: deliveries are charged after the fact, all of them, so over time the
    rate is exact; replicas that begin in the same tenth of a second may each begin with a twentieth
    of the burst before they know. Durability: as `RequestLimits`.
    """

    def of(
        self, subject: str, *, events: Sequence[Limit] = (), size: Sequence[Limit] = ()
    ) -> Delivery:
        """The one delivery of this process for a subject, with its limits on events and on bytes,
        which replace earlier ones."""


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


class Usage(Protocol):
    """Counts per key: requests, streams, events, bytes, denials; by minute, hour and day.

    Ordering: a count belongs to the minute (UTC) in which it was collected, up to half a second
    after it was made. Atomicity: what was collected is added once, also when the answer to it was
    lost. Durability: that of the ledger beneath; a crash of this process loses half a second of
    counts. While the ledger is away, counts wait in bounded memory.
    """

    @property
    def lost(self) -> int:
        """Entries (a key's minute) that were dropped because too many waited."""

    def count(
        self,
        key_id: str,
        *,
        requests: int = 0,
        streams: int = 0,
        events: int = 0,
        size: int = 0,
        denials: int = 0,
    ) -> None:
        """Add to a key's counts; costs less than a microsecond and never waits."""

    async def flush(self) -> bool:
        """Hand over the counts so far; False if the ledger is away."""

    async def rows(self, key_id: str, window: int, step: int) -> list[Row]:
        """Usage of a key in the last `window` seconds, one row per `step` seconds, oldest first.

        Raises `InvalidRequest` for what is not kept, `Unavailable` when the ledger is away.
        """


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
    usage: Usage
    signals: Signals
    health: Callable[[], Health]
