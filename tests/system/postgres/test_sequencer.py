"""Every committed row gets one offset, whatever its writers, other gateways and the server do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from gateway.adapters.postgres.log import PostgresLog
from gateway.clock import SystemClock, parse_rfc3339
from gateway.event import Draft
from tests.system.postgres.writers import Writers, everything, insert, naive_reader, until_head

MakeDraft = Callable[..., Draft]
WRITERS = 64
BY_SEQUENCE = "SELECT seq, id FROM audit_gateway.event WHERE seq > $1 ORDER BY seq LIMIT 5000"


@asynccontextmanager
async def opened(url: str, count: int = 1) -> AsyncIterator[list[PostgresLog]]:
    """Several gateways' logs on one database."""
    logs = [await PostgresLog.open(url, SystemClock()) for _ in range(count)]
    try:
        yield logs
    finally:
        for log in logs:
            await log.close()


async def migrated(url: str) -> None:
    """A log that nobody follows."""
    async with opened(url):
        pass


async def follow(log: PostgresLog, found: list[str], stop: asyncio.Event) -> None:
    """Reads the log while it grows, as a stream does."""
    while not stop.is_set() or len(found) < log.head:
        found += await everything(log, after=len(found))
        await asyncio.sleep(0.005)


@pytest.mark.slow
async def test_rows_of_64_writers_that_commit_in_any_order_come_once_and_densely(
    database: str, sql: asyncpg.Connection, rows: int
) -> None:
    stop = asyncio.Event()
    followed: list[list[str]] = [[], []]
    async with opened(database, 2) as logs:
        left_open = await asyncpg.connect(database)
        await left_open.execute("BEGIN")
        await insert(left_open, ["left open"])
        reading = [
            asyncio.create_task(follow(log, found, stop))
            for log, found in zip(logs, followed, strict=True)
        ]
        writers = Writers(database, rows, seed=9)
        async with naive_reader(database, BY_SEQUENCE) as naive:
            await writers.run(WRITERS)
        for log in logs:
            await until_head(log, len(writers.committed), seconds=180)
        stop.set()
        await asyncio.gather(*reading)
        await left_open.execute("COMMIT")
        await until_head(logs[0], len(writers.committed) + 1)
        assert await everything(logs[0], after=len(writers.committed)) == ["left open"]
        assert len(writers.committed) >= rows
        assert min(writers.rolled_back, writers.savepoints) > 0
        for found in followed:
            assert len(found) == len(writers.committed), "each offset was read once"
            assert set(found) == writers.committed
        assert writers.committed - naive, "reading by `seq > last` would have been as good"
    await left_open.close()


async def test_the_rows_of_a_transaction_stand_together_in_the_order_of_insertion(
    database: str, sql: asyncpg.Connection
) -> None:
    async with opened(database) as [log]:
        other = await asyncpg.connect(database)
        async with sql.transaction():
            await insert(sql, ["a1", "a2"])
            async with other.transaction():
                await insert(other, ["b1"])
                await insert(sql, ["a3"])
                await insert(other, ["b2"])
            await insert(sql, ["a4"])
            await until_head(log, 2)
        await until_head(log, 6)
        assert await everything(log) == ["b1", "b2", "a1", "a2", "a3", "a4"]
        await other.close()


async def test_a_first_look_at_an_empty_table_misses_nothing(
    database: str, sql: asyncpg.Connection
) -> None:
    await migrated(database)
    async with sql.transaction():
        await insert(sql, ["committed after the log was opened"])
        async with opened(database) as [log]:
            assert log.head == 0
    async with opened(database) as [log]:
        assert await everything(log) == ["committed after the log was opened"]


@pytest.mark.parametrize("most", [1, 3, 7, 1000])
async def test_steps_of_any_size_place_each_row_once(
    database: str, sql: asyncpg.Connection, most: int
) -> None:
    await migrated(database)
    rng = random.Random(most)
    others = [await asyncpg.connect(database) for _ in range(5)]
    open_rows: dict[asyncpg.Connection, list[str]] = {}
    committed: list[str] = []

    async def end(one: asyncpg.Connection, how: str) -> None:
        await one.execute(how)
        committed.extend(open_rows.pop(one) if how == "COMMIT" else ())
        open_rows.pop(one, None)

    # Transactions that overlap each other and the steps, end in any order, and are larger than
    # a step.
    for turn in range(120):
        one = rng.choice(others)
        if one in open_rows:
            await end(one, rng.choice(["COMMIT", "COMMIT", "ROLLBACK"]))
        else:
            await one.execute("BEGIN")
            open_rows[one] = [f"{turn}-{place}" for place in range(rng.randint(0, 20))]
            await insert(one, open_rows[one])
        if rng.random() < 0.6:
            await sql.execute("SELECT * FROM sequence(true, 0, $1::integer)", most)
    for one in others:
        if one in open_rows:
            await end(one, "COMMIT")
        await one.close()
    while (await sql.fetchrow("SELECT * FROM sequence(true, 0, $1::integer)", most))["more"]:
        pass
    rows = await sql.fetch(
        'SELECT "offset", event.id FROM sequenced JOIN event USING (xid, seq) ORDER BY "offset"'
    )
    assert [row["offset"] for row in rows] == list(range(1, len(committed) + 1))
    assert sorted(row["id"] for row in rows) == sorted(committed)


async def scanned(sql: asyncpg.Connection) -> int:
    """How many entries of the event table's indexes have been read so far."""
    await sql.execute("SELECT pg_stat_force_next_flush()")
    await sql.execute("SELECT pg_stat_clear_snapshot()")
    read: int = await sql.fetchval(
        "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname LIKE 'event%'"
    )
    return read


async def test_a_step_reads_what_is_new_and_no_more_while_a_transaction_stays_open(
    database: str, sql: asyncpg.Connection
) -> None:
    await migrated(database)
    left_open = await asyncpg.connect(database)
    await left_open.execute("BEGIN; SELECT pg_current_xact_id()")
    oldest = await left_open.fetchval("SELECT pg_current_xact_id()::text")
    for turn in range(20):
        await insert(sql, [f"{turn}-{place}" for place in range(500)])
        await sql.execute("SELECT sequence(true, 0, 10000)")
    before = await scanned(sql)
    await insert(sql, [f"new-{place}" for place in range(10)])
    step = await sql.fetchrow("SELECT * FROM sequence(true, 0, 10000)")
    assert step["head"] == 10_010
    assert await scanned(sql) - before <= 20
    before = await scanned(sql)
    await sql.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    await sql.fetch("SELECT count(*) FROM event WHERE xid >= $1::text::xid8", oldest)
    assert await scanned(sql) - before >= 10_010, "a range from the oldest transaction reads all"
    await left_open.close()


async def test_rows_that_are_not_committed_yet_are_not_read_again_at_each_step(
    database: str, sql: asyncpg.Connection
) -> None:
    await migrated(database)
    large = await asyncpg.connect(database)
    await large.execute("BEGIN")
    await insert(large, [f"large-{place}" for place in range(5000)])
    await insert(sql, ["small"])
    await sql.execute("SELECT sequence(true, 0, 10000)")
    before = await scanned(sql)
    await insert(sql, ["another"])
    await sql.execute("SELECT sequence(true, 0, 10000)")
    assert await scanned(sql) - before <= 4
    await large.execute("COMMIT")
    assert (await sql.fetchrow("SELECT * FROM sequence(true, 0, 10000)"))["head"] == 5002
    await large.close()


async def test_the_newest_step_is_found_at_once_though_old_ones_cannot_be_cleaned_up(
    database: str, sql: asyncpg.Connection
) -> None:
    await migrated(database)
    left_open = await asyncpg.connect(database)
    await left_open.execute("BEGIN; SELECT pg_current_xact_id()")
    for turn in range(300):
        await insert(sql, [str(turn)])
        await sql.execute("SELECT sequence(true, 0, 10000)")
    assert await sql.fetchval("SELECT count(*) FROM step") <= 101
    plan = await sql.fetch("EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM newest_step()")
    buffers = next(row[0] for row in plan if "Buffers" in row[0])
    assert int(buffers.split("hit=")[1].split()[0]) < 10
    await left_open.close()


async def test_ids_that_several_gateways_append_at_once_are_accepted_once(
    database: str, draft: MakeDraft
) -> None:
    async with opened(database, 3) as logs:
        results = await asyncio.gather(
            *(
                log.append([[draft(id=f"{turn}-{place}") for place in range(40)]])
                for turn in range(10)
                for log in logs
            )
        )
        assert sum(batch.accepted for [batch] in results) == 400
        assert sum(batch.duplicates for [batch] in results) == 800
        for log in logs:
            await until_head(log, 400)
            found = await everything(log)
            assert len(found) == len(set(found)) == 400
        stands = {name: offset for offset, name in enumerate(found, 1)}
        for number, [batch] in enumerate(results):
            mine = [stands[f"{number // 3}-{place}"] for place in range(40)]
            assert (batch.first, batch.last) == (min(mine), max(mine))


async def test_time_never_runs_backwards_though_the_clocks_of_gateways_differ(
    database: str, draft: MakeDraft
) -> None:
    class Shifted(SystemClock):
        def now(self) -> float:
            return super().now() - 60

    behind = await PostgresLog.open(database, Shifted())
    async with opened(database) as [log]:
        for _ in range(5):
            await log.append([[draft()]])
            await behind.append([[draft()]])
        await log.catch_up()
        page = await log.read(0, 10, limit=100)
        times = [parse_rfc3339(event.members()["recorded_at"]) for event in page.events]
        assert len(times) == 10
        assert times == sorted(times)
        assert await log.last_before(times[4]) == times.index(times[4])
    await behind.close()


async def test_events_of_another_gateway_are_announced(database: str, draft: MakeDraft) -> None:
    async with opened(database, 2) as [one, other]:
        assert one.epoch == other.epoch
        arriving = asyncio.create_task(until_head(other, 3))
        await one.append([[draft(id="a"), draft(id="b"), draft(id="c")]])
        await arriving
        assert await everything(other) == ["a", "b", "c"]


async def test_being_told_to_look_finds_events_before_the_pause_ends(
    database: str, draft: MakeDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.adapters.postgres.sequencer._BUSY_SECONDS", 3600.0)
    monkeypatch.setattr("gateway.adapters.postgres.sequencer._QUIET_SECONDS", 3600.0)
    async with opened(database, 2) as [one, other]:
        await one.append([[draft()]])
        other.poll_now()
        await until_head(other, 1, seconds=5)
