"""In-process limits, leases, usage and signals for a gateway that runs alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from gateway.access.limits.buckets import SubjectBucket, SubjectBuckets
from gateway.access.limits.delivery_limits import Buckets
from gateway.access.limits.limits import Concurrency, Decision, Limit
from gateway.access.limits.ports import Health, Lease, Shared
from gateway.access.usage.meter import Ledger, Meter, UsageBatch
from gateway.access.usage.windows import TIERS, ZERO, Counts, Tier
from gateway.clock import Clock
from gateway.tasks import PLAIN, Tasks


@asynccontextmanager
async def shared_in_process(
    clock: Clock, ledger: Ledger | None = None, tasks: Tasks = PLAIN
) -> AsyncIterator[Shared]:
    """Adapters of a gateway without Redis. Usage goes to `ledger`, or ends with the process."""
    meter = Meter(ledger or MemoryLedger(), clock)
    async with meter.running(tasks):
        yield Shared(
            limits=MemoryLimits(clock),
            deliveries=Buckets(clock),
            leases=MemoryLeases(),
            usage=meter,
            signals=NoSignals(),
            health=Health,
        )


class MemoryLimits:
    """`RequestLimits` of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets = SubjectBuckets(SubjectBucket, clock)

    async def take(self, limit: Limit, subject: str, cost: int = 1) -> Decision:
        state = self._buckets.get(limit, subject).state
        allowed = limit.take(state, cost, limit.time(self._clock))
        return limit.decision(state, allowed, cost, source="local")


class MemoryLeases:
    """`Leases` of one process."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], int] = {}

    async def acquire(self, limit: Concurrency, subject: str) -> Lease | Decision:
        identity = (limit.name, subject)
        held = self._held.get(identity, 0)
        if held >= limit.most:
            return limit.refusal(held, "local")
        self._held[identity] = held + 1
        return Lease(lambda: self._release(identity))

    def _release(self, identity: tuple[str, str]) -> None:
        left = self._held[identity] - 1
        if left:
            self._held[identity] = left
        else:
            del self._held[identity]


class MemoryLedger:
    """`Ledger` in memory, lost at a restart."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], dict[int, Counts]] = {}
        self._taken: dict[str, int] = {}

    async def add(self, batch: UsageBatch) -> None:
        if self._taken.get(batch.writer, 0) >= batch.number:
            return
        self._taken[batch.writer] = batch.number
        for key_id, (minute, counts) in batch.entries.items():
            for tier in TIERS:
                index = tier.index(minute * 60)
                kept = self._counts.setdefault((key_id, tier.name), {})
                oldest = index - tier.kept // tier.seconds
                while kept and (first := next(iter(kept))) < oldest:
                    del kept[first]
                before = kept.get(index, ZERO)
                kept[index] = tuple(map(sum, zip(before, counts, strict=True)))

    async def read(self, key_id: str, tier: Tier, first: int, last: int) -> Mapping[int, Counts]:
        kept = self._counts.get((key_id, tier.name), {})
        return {index: counts for index, counts in kept.items() if first <= index <= last}


class NoSignals:
    """`Signals` without other replicas: sends and receives nothing."""

    def send(self, name: str) -> None:
        pass

    def listen(self, name: str, listener: Callable[[], None]) -> None:
        pass
