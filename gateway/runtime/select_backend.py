"""Choice of the backend that replicas share: Redis, or none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gateway.access.limits.ports import Shared
from gateway.access.usage.meter import Ledger
from gateway.adapters.files.folder import DataFolder
from gateway.adapters.memory.backend import shared_in_process
from gateway.adapters.sqlite.usage import SqliteLedger
from gateway.clock import Clock
from gateway.settings.declarations import Settings
from gateway.tasks import PLAIN, Tasks

if TYPE_CHECKING:
    from gateway.adapters.postgres.usage import PostgresLedger


@asynccontextmanager
async def shared_of(
    settings: Settings, clock: Clock, tasks: Tasks = PLAIN
) -> AsyncIterator[Shared]:
    """Adapters of one process of a gateway."""
    if not settings.redis.url:
        async with (
            _own_ledger(settings) as ledger,
            shared_in_process(clock, ledger, tasks) as shared,
        ):
            yield shared
        return
    # Imported here: most gateways need neither the adapter nor its driver.
    from gateway.adapters.redis.address import parse_address
    from gateway.adapters.redis.backend import shared_over_redis

    async with shared_over_redis(parse_address(settings.redis.url), clock, tasks=tasks) as shared:
        yield shared


@asynccontextmanager
async def ledger_to_read(settings: Settings, clock: Clock) -> AsyncIterator[Ledger]:
    """Ledger with the usage of keys of gateways with these settings."""
    if not settings.redis.url:
        async with _own_ledger(settings) as ledger:
            yield ledger
        return
    from gateway.adapters.redis.address import parse_address
    from gateway.adapters.redis.backend import PREFIX
    from gateway.adapters.redis.link import Link
    from gateway.adapters.redis.usage import RedisLedger

    link = Link(parse_address(settings.redis.url), clock, PREFIX)
    try:
        await link.probe()
        yield RedisLedger(link)
    finally:
        await link.close()


@asynccontextmanager
async def _own_ledger(settings: Settings) -> AsyncIterator[Ledger]:
    """Ledger without Redis: in PostgreSQL beside the log, or in the data folder."""
    ledger: SqliteLedger | PostgresLedger
    if settings.on_postgres:
        from gateway.adapters.postgres.usage import PostgresLedger

        ledger = await PostgresLedger.open(settings.store_url)
    else:
        ledger = SqliteLedger(DataFolder(settings.data).path / "usage.db")
    try:
        yield ledger
    finally:
        await ledger.close()
