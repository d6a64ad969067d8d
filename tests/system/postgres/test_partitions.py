"""Retention: the floor moves exactly, and what lies below it goes partition by partition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from gateway.adapters.postgres.log import PostgresLog
from gateway.clock import SystemClock
from gateway.event import Draft
from gateway.log.ports import RetentionExceeded
from tests.support.machine_time import Stopwatch, patience
from tests.system.postgres.writers import begin_partition, everything, insert, until_head

MakeDraft = Callable[..., Draft]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition that could not be dropped is tried again at the next occasion."""
    monkeypatch.setattr("gateway.adapters.postgres.log._DROP_AGAIN_SECONDS", 0.0)


@pytest.fixture
async def log(database: str) -> AsyncIterator[PostgresLog]:
    opened = await PostgresLog.open(database, SystemClock())
    yield opened
    await opened.close()


async def partitions(sql: asyncpg.Connection) -> list[str]:
    rows = await sql.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
        " WHERE inhparent = 'event'::regclass ORDER BY 1"
    )
    return [row["name"] for row in rows]


async def go(log: PostgresLog, sql: asyncpg.Connection, *gone: str) -> None:
    """Return once these partitions are dropped: by the first occasion at which nobody reads them
    for long, as on a busy machine somebody may."""
    watch = Stopwatch()
    while not set(gone).isdisjoint(await partitions(sql)):
        assert watch.seconds < 10, f"{gone} are still there"
        assert await log.trim(None, 1 << 62) == 0


async def test_partitions_go_when_all_their_events_are_gone(
    log: PostgresLog, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    assert await partitions(sql) == ["event_0", "event_1"]
    await log.append([[draft(id="a"), draft(id="b")]])
    await begin_partition(sql)
    await log.append([[draft(id="c")]])
    await begin_partition(sql)
    await log.append([[draft(id="d")]])
    assert await partitions(sql) == ["event_0", "event_1", "event_2", "event_3"]
    bytes_after = [
        await sql.fetchval(
            'SELECT (SELECT max(bytes) FROM sequenced) - bytes FROM sequenced WHERE "offset" = $1',
            offset,
        )
        for offset in (1, 2, 3)
    ]
    assert await log.trim(None, bytes_after[0]) == 1
    assert await partitions(sql) == ["event_0", "event_1", "event_2", "event_3"]
    assert await log.trim(None, bytes_after[1]) == 1
    await go(log, sql, "event_0")
    assert await partitions(sql) == ["event_1", "event_2", "event_3"]
    assert await everything(log, after=2) == ["c", "d"]
    with pytest.raises(RetentionExceeded):
        await log.read(1, 4, limit=10)
    assert await log.trim(None, bytes_after[2]) == 1
    await go(log, sql, "event_1")
    assert await partitions(sql) == ["event_2", "event_3"]
    assert await everything(log, after=3) == ["d"]


async def test_a_partition_stays_while_a_transaction_may_still_bring_rows_of_it(
    database: str, log: PostgresLog, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    left_open = await asyncpg.connect(database)
    await left_open.execute("BEGIN")
    await insert(left_open, ["late"])
    await log.append([[draft(id="a")]])
    await begin_partition(sql)
    assert await log.trim(None, 0) == 1
    assert "event_0" in await partitions(sql), "not even emptied while it is in use"
    # Neither writers nor readers wait for it.
    await asyncio.wait_for(log.append([[draft(id="b")]]), patience(3))
    await left_open.execute("COMMIT")
    await until_head(log, 3)
    assert await log.trim(1, None) == 0
    assert "event_0" in await partitions(sql), "its late row stands behind the floor"
    assert await everything(log, after=1) == ["b", "late"]
    assert await log.trim(None, 0) == 2
    await go(log, sql, "event_0")
    await left_open.close()


async def test_a_partition_that_cannot_be_dropped_yet_is_emptied(
    database: str, log: PostgresLog, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    await log.append([[draft(id="a")]])
    await begin_partition(sql)
    left_open = await asyncpg.connect(database)
    await left_open.execute("BEGIN")
    # Holds on to the table as a whole and to the second partition, not to the first.
    await insert(left_open, ["b"])
    assert await log.trim(None, 0) == 1
    assert "event_0" in await partitions(sql)
    assert await sql.fetchval("SELECT pg_relation_size('event_0')") == 0
    await left_open.execute("COMMIT")
    await until_head(log, 2)
    await go(log, sql, "event_0")
    assert await everything(log, after=1) == ["b"]
    await left_open.close()


async def test_reading_while_partitions_are_dropped_gives_all_events_or_says_overtaken(
    log: PostgresLog, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    stop = asyncio.Event()
    overtaken = 0

    async def read() -> None:
        nonlocal overtaken
        while not stop.is_set():
            after = log.floor
            await asyncio.sleep(0)
            try:
                page = await log.read(after, log.head, limit=1000)
            except RetentionExceeded:
                overtaken += 1
                assert log.floor > after
            else:
                offsets = [event.offset for event in page.events]
                assert offsets == list(range(after + 1, page.reached + 1))

    readers = [asyncio.create_task(read()) for _ in range(3)]
    for turn in range(30):
        await log.append([[draft() for _ in range(50)]])
        await begin_partition(sql)
        if turn % 2:
            assert await log.trim(None, 0) == 100
    stop.set()
    await asyncio.gather(*readers)
    await log.trim(None, 0)
    assert len(await partitions(sql)) <= 4


async def test_retention_by_age_begins_partitions_early(
    database: str, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    class Later(SystemClock):
        ahead = 0.0

        def now(self) -> float:
            return super().now() + self.ahead

    clock = Later()
    log = await PostgresLog.open(database, clock)
    for _ in range(5):
        await log.append([[draft()]])
        clock.ahead += 600
        await log.trim(int((clock.now() - 3600) * 1_000_000), None)
    assert await sql.fetchval("SELECT count(DISTINCT tableoid) FROM event") == 5
    clock.ahead += 3600
    while await log.trim(int((clock.now() - 3600) * 1_000_000), None):
        pass
    assert await sql.fetchval("SELECT count(*) FROM event") == 0
    await log.close()
