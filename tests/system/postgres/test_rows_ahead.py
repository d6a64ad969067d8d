"""Rows of a followed table that are found while those before them are stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import asyncpg
import pytest

from gateway.adapters.postgres.log import PostgresLog
from gateway.adapters.postgres.rows import parts_of
from gateway.adapters.postgres.source import TableSource, prepare
from gateway.clock import SystemClock
from gateway.errors import Unavailable
from tests.system.postgres.followed import SOURCE, TABLE, add
from tests.system.postgres.writers import everything, until_head

CODES = [f"row {number}" for number in range(5000)]


@pytest.fixture
async def sql(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    await connection.execute(TABLE)
    await prepare(database, SOURCE)
    await add(connection, CODES)
    yield connection
    connection.terminate()


class Followed:
    """A log, and followers of the table beside it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Followed:
        self._log = await PostgresLog.open(self._url, SystemClock())
        self._stack.push_async_callback(self._log.close)
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._stack.aclose()

    async def table(self) -> TableSource:
        table = await TableSource.open(self._url, SOURCE, SystemClock())
        self._stack.push_async_callback(table.close)
        return table

    async def codes(self) -> list[str]:
        """Ids of all events, once there are as many as rows."""
        self._log.poll_now()
        await until_head(self._log, len(CODES))
        return await everything(self._log)


async def test_rows_found_ahead_are_dropped_where_another_gateway_has_brought_them_in(
    database: str, sql: asyncpg.Connection
) -> None:
    async with Followed(database) as followed:
        one, other = await followed.table(), await followed.table()
        # Each step but the last one finds the rows after its own.
        assert [await one.collect(), await other.collect()] == [2000, 2000]
        assert [await one.collect(), await one.collect(), await one.collect()] == [0, 1000, 0]
        assert await followed.codes() == CODES


async def test_rows_found_ahead_are_found_again_after_a_step_that_failed(
    database: str, sql: asyncpg.Connection
) -> None:
    async with Followed(database) as followed:
        table = await followed.table()
        assert await table.collect() == 2000
        steps = "ALTER TABLE audit_gateway.source_step"
        await sql.execute(f"{steps} ADD CONSTRAINT closed CHECK (number < 0) NOT VALID")
        with pytest.raises(Unavailable):
            await table.collect()
        await sql.execute(f"{steps} DROP CONSTRAINT closed")
        assert [await table.collect(), await table.collect()] == [2000, 1000]
        assert await followed.codes() == CODES


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([200] * 250, [100, 100, 50]),
        ([100_000] * 5, [2, 2, 1]),
        ([1 << 20, 10, None], [1, 2]),
    ],
)
def test_rows_are_mapped_in_parts_of_few_rows_and_few_characters(
    sizes: Sequence[int | None], parts: list[int]
) -> None:
    rows = [{"row": size and "x" * size} for size in sizes]
    found = list(parts_of(rows))
    assert [len(part) for part in found] == parts
    assert [row for part in found for row in part] == rows
