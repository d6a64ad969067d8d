"""In-process limits, leases, usage and signals for a gateway that runs alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.access.limits.buckets import SubjectBucket, SubjectBuckets
from gateway.access.limits.delivery_limits import Deliveries
from gateway.access.limits.limits import Concurrency, Decision, Limit
from gateway.access.limits.ports import Health, Lease, Shared
from gateway.access.usage.meter import Ledger, Meter
from gateway.clock import Clock
from gateway.tasks import PLAIN, Tasks


@asynccontextmanager
async def shared_in_process(
    clock: Clock, ledger: Ledger, tasks: Tasks = PLAIN
) -> AsyncIterator[Shared]:
    """Adapters of a gateway without Redis. Usage goes to `ledger`."""
    meter = Meter(ledger, clock)
    async with meter.running(tasks):
        yield Shared(
            limits=MemoryLimits(clock),
            deliveries=Deliveries(clock),
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


class NoSignals:
    """`Signals` without other replicas: sends and receives nothing."""

    def send(self, name: str) -> None:
        pass

    def listen(self, name: str, listener: Callable[[], None]) -> None:
        pass
