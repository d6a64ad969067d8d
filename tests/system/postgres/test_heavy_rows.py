"""Rows of a followed table that are large, or take the server long: none holds up the others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest

from gateway.adapters.postgres import database as postgres
from gateway.adapters.postgres import source as postgres_source
from gateway.adapters.postgres.log import PostgresLog
from gateway.adapters.postgres.source import TableSource, prepare
from gateway.adapters.postgres.table import TableSettings
from gateway.clock import SystemClock
from gateway.errors import Unavailable
from tests.system.postgres.followed import following
from tests.system.postgres.writers import eventually, everything, until_head

# Making the JSON of a row takes as long as its column `pace` says.
TABLE = """
CREATE TYPE pace AS ENUM ('quick', 'slow', 'stuck');
CREATE FUNCTION shown(pace) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(CASE $1 WHEN 'quick' THEN 0 WHEN 'slow' THEN 0.1 ELSE 600 END);
    RETURN to_json($1::text);
END $$;
CREATE CAST (pace AS json) WITH FUNCTION shown(pace);
CREATE TABLE audit (id bigserial PRIMARY KEY, pace pace DEFAULT 'quick', words text, doc jsonb)
"""
COLUMNS = {"category": "=billing", "action": "=pay"}
MODES = pytest.mark.parametrize("read_only", [False, True], ids=["prepared", "read-only"])


@pytest.fixture
async def sql(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    await connection.execute(TABLE)
    await prepare(database, TableSettings("audit", COLUMNS))
    yield connection
    connection.terminate()


async def marked(log: PostgresLog) -> list[str]:
    """The keys of the rows that made a marked event."""
    page = await log.read(0, log.head, limit=1000)
    found = [event.members()["data"] for event in page.events]
    return [data["key"] for data in found if "rejected_item" in data]


@MODES
async def test_rows_that_take_long_come_in_smaller_parts_and_one_that_takes_too_long_is_marked(
    database: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, read_only: bool
) -> None:
    monkeypatch.setitem(postgres._SETTINGS, "statement_timeout", "1s")
    monkeypatch.setattr(postgres_source, "_ROWS", 64)
    await sql.execute(
        "INSERT INTO audit (pace) SELECT 'slow' FROM generate_series(1, 20);"
        "INSERT INTO audit (pace) VALUES ('stuck');"
        "INSERT INTO audit (pace) SELECT 'quick' FROM generate_series(1, 200)"
    )
    sources: list[TableSource] = []
    opened = TableSource.open

    async def noted(*arguments: object) -> TableSource:
        sources.append(await opened(*arguments))  # type: ignore[arg-type]
        return sources[-1]

    monkeypatch.setattr(TableSource, "open", noted)
    async with following(database, TableSettings("audit", COLUMNS, read_only)) as log:
        await until_head(log, 221, seconds=120)
        assert await everything(log) == [f"public.audit:{key}" for key in range(1, 222)]
        assert await marked(log) == ["21"]

        async def as_before() -> bool:
            return sources[0]._most == 64 and sources[0].degraded_reason is None

        await eventually(as_before)


@MODES
async def test_rows_that_compress_well_are_not_read_to_be_found_too_large(
    database: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, read_only: bool
) -> None:
    # 3 GB, were they read.
    await sql.execute(
        "INSERT INTO audit (words) VALUES (repeat('x', 60000000));"
        "INSERT INTO audit (words) SELECT words FROM audit, generate_series(1, 50);"
        "INSERT INTO audit (words) VALUES ('fine')"
    )
    assert await sql.fetchval("SELECT pg_column_size(words) FROM audit WHERE id = 1") < 1 << 20
    async with following(database, TableSettings("audit", COLUMNS, read_only)) as log:
        await until_head(log, 52)
        assert await marked(log) == [str(key) for key in range(1, 52)]


@MODES
async def test_no_more_bytes_come_at_once_than_a_gateway_holds(
    database: str, sql: asyncpg.Connection, read_only: bool
) -> None:
    await sql.execute(
        "INSERT INTO audit (doc) SELECT jsonb_build_object('n', repeat('x', 900000))"
        " FROM generate_series(1, 100)"
    )
    log = await PostgresLog.open(database, SystemClock())
    table = await TableSource.open(
        database, TableSettings("audit", COLUMNS, read_only), SystemClock()
    )
    at_once: list[int] = []

    async def all_there() -> bool:
        # On a busy machine the server may give up on a transaction; it is tried again.
        with suppress(Unavailable):
            at_once.append(await table.collect())
            assert at_once[-1]
        return sum(at_once) >= 100

    await eventually(all_there)
    assert max(at_once) <= 64
    await log.catch_up()
    await until_head(log, 100)
    assert await everything(log) == [f"public.audit:{key}" for key in range(1, 101)]
    await table.close()
    await log.close()
