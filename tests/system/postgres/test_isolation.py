"""A database whose transactions are isolated more than usual by default."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import pytest

from gateway.adapters.postgres.log import PostgresLog
from gateway.adapters.postgres.source import prepare
from gateway.clock import SystemClock
from gateway.event import Draft
from tests.system.postgres.followed import SOURCE, TABLE, add, following
from tests.system.postgres.writers import (
    begin_partition,
    eventually,
    everything,
    insert,
    until_head,
)

MakeDraft = Callable[..., Draft]


@pytest.fixture(params=["repeatable read", "serializable"])
async def isolated(request: pytest.FixtureRequest, database: str) -> str:
    """The URL of a database with that default."""
    admin = await asyncpg.connect(database)
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(
        f"ALTER DATABASE {name} SET default_transaction_isolation = '{request.param}'"
    )
    await admin.close()
    return database


async def test_gateways_append_at_once_whatever_the_default_isolation_is(
    isolated: str, draft: MakeDraft
) -> None:
    logs = [await PostgresLog.open(isolated, SystemClock()) for _ in range(3)]
    for turn in range(20):
        await asyncio.gather(
            *(log.append([[draft(id=f"{turn}-{place}")]]) for place, log in enumerate(logs))
        )
    await until_head(logs[0], 60)
    assert len(set(await everything(logs[0]))) == 60
    for log in logs:
        await log.close()


async def test_a_followed_table_is_brought_in_whatever_the_default_isolation_is(
    isolated: str, draft: MakeDraft
) -> None:
    sql = await asyncpg.connect(isolated)
    await sql.execute(TABLE)
    await prepare(isolated, SOURCE)
    async with following(isolated) as log, following(isolated):
        for turn in range(10):
            await add(sql, [f"row {turn}"])
            await log.append([[draft(id=f"sent {turn}")]])
        await until_head(log, 20)
        ids = {f"{how} {turn}" for how in ("row", "sent") for turn in range(10)}
        assert set(await everything(log)) == ids
    await sql.close()


async def test_a_partition_is_not_dropped_over_a_row_that_came_while_it_was_waited_for(
    isolated: str, draft: MakeDraft
) -> None:
    log = await PostgresLog.open(isolated, SystemClock())
    schema = {"search_path": "audit_gateway"}
    sql = await asyncpg.connect(isolated, server_settings=schema)
    late = await asyncpg.connect(isolated, server_settings=schema)
    await log.append([[draft(id="a")]])
    await late.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
    await insert(late, ["late"])
    await begin_partition(sql)
    assert await log.trim(None, 0) == 1
    # Longer than it takes to let go.
    await sql.execute("ALTER FUNCTION drop_partition SET lock_timeout = '20s'")

    async def drop() -> bool:
        async with log._writes.connection("not dropped") as connection:
            dropped: bool = await connection.fetchval("SELECT drop_partition(0)")
            return dropped

    async def waits() -> bool:
        return bool(
            await sql.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND query = 'SELECT drop_partition(0)' AND datname = current_database())"
            )
        )

    dropping = asyncio.create_task(drop())
    await eventually(waits)
    await late.execute("COMMIT")
    assert await dropping is False
    await until_head(log, 2)
    assert await everything(log, after=1) == ["late"]
    for connection in (sql, late):
        await connection.close()
    await log.close()
