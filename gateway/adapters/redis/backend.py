"""All shared adapters over Redis, for any number of replicas.

Redis is optional at run time: a gateway starts, serves and drains without it, and reconnects by
itself. See `gateway.adapters.redis.link`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.access.limits.ports import Health, Shared
from gateway.access.usage.meter import Meter
from gateway.adapters.redis.address import RedisAddress
from gateway.adapters.redis.deliveries import RedisDeliveries
from gateway.adapters.redis.leases import LEASE_SECONDS, RedisLeases
from gateway.adapters.redis.limits import RedisLimits
from gateway.adapters.redis.link import CALL_SECONDS, Link
from gateway.adapters.redis.signals import RedisSignals
from gateway.adapters.redis.usage import RedisLedger
from gateway.clock import Clock
from gateway.tasks import PLAIN, Tasks, stop

PREFIX = "audit-gateway"


@asynccontextmanager
async def shared_over_redis(
    address: RedisAddress,
    clock: Clock,
    *,
    prefix: str = PREFIX,
    server_time: bool = True,
    lease_seconds: float = LEASE_SECONDS,
    call_seconds: float = CALL_SECONDS,
    tasks: Tasks = PLAIN,
) -> AsyncIterator[Shared]:
    """Adapters of one replica. Entering waits for Redis a second at most, and never fails.

    `prefix` begins all names at the server: gateways that share nothing differ in it.
    `server_time=False` uses `clock` instead of the server's clock, for tests that own the time.
    """
    link = Link(address, clock, prefix, call_seconds, tasks)
    limits = RedisLimits(link, clock, server_time)
    deliveries = RedisDeliveries(link, clock, server_time)
    leases = RedisLeases(link, clock, server_time=server_time, lease_seconds=lease_seconds)
    signals = RedisSignals(link, clock)
    meter = Meter(RedisLedger(link), clock)

    def health() -> Health:
        return Health(
            up=link.up,
            outages=link.outages,
            failed_calls=link.failed_calls,
            round_trips=link.round_trips,
            local_decisions=limits.local_decisions + leases.local_decisions,
            closed_decisions=limits.closed_decisions + leases.closed_decisions,
        )

    await link.probe()
    running = [
        tasks.keep("redis_link", link.keep),
        tasks.keep("deliveries", deliveries.run),
        tasks.keep("leases", leases.run),
        tasks.keep("signals", signals.run),
    ]
    try:
        async with meter.running(tasks):
            yield Shared(limits, deliveries, leases, meter, signals, health)
    finally:
        await stop(running)
        await deliveries.sync()
        await leases.give_back_all()
        await signals.close()
        await link.close()
