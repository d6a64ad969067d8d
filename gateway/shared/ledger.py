"""Which ledger keeps the usage of keys, going by the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gateway.clock import Clock
from gateway.settings.declarations import Settings
from gateway.shared.meter import Ledger
from gateway.shared.sqlite_usage import SqliteLedger
from gateway.store.folder import DataFolder

if TYPE_CHECKING:
    from gateway.shared.postgres_usage import PostgresLedger


@asynccontextmanager
async def ledger_to_read(settings: Settings, clock: Clock) -> AsyncIterator[Ledger]:
    """The one that gateways with these settings write to."""
    if not settings.redis.url:
        async with own_ledger(settings) as ledger:
            yield ledger
        return
    from gateway.shared.redis import PREFIX
    from gateway.shared.redis_address import parse_address
    from gateway.shared.redis_link import Link
    from gateway.shared.redis_usage import RedisLedger

    link = Link(parse_address(settings.redis.url), clock, PREFIX)
    try:
        await link.probe()
        yield RedisLedger(link)
    finally:
        await link.close()


@asynccontextmanager
async def own_ledger(settings: Settings) -> AsyncIterator[Ledger]:
    """The one of a gateway without Redis: beside the log in PostgreSQL, or in the data folder."""
    ledger: SqliteLedger | PostgresLedger
    if settings.on_postgres:
        # Imported here: most gateways need neither the adapter nor its driver.
        from gateway.shared.postgres_usage import PostgresLedger

        ledger = await PostgresLedger.open(settings.store_url)
    else:
        ledger = SqliteLedger(DataFolder(settings.data).path / "usage.db")
    try:
        yield ledger
    finally:
        await ledger.close()
