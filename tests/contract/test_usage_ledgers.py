"""What every ledger of usage does: in memory, in a file, in PostgreSQL, in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

from gateway.access.usage.meter import Ledger, Meter, UsageBatch
from gateway.access.usage.windows import DAY, HOUR, MINUTE, Counts
from gateway.adapters.postgres.database import SCHEMA
from gateway.adapters.postgres.usage import PostgresLedger
from gateway.adapters.redis.address import parse_address
from gateway.adapters.redis.link import Link
from gateway.adapters.redis.usage import RedisLedger
from gateway.adapters.sqlite.usage import SqliteLedger
from tests.contract.conftest import POSTGRES
from tests.contract.sharing import START, StillClock, new_prefix
from tests.support.memory_ledger import MemoryLedger
from tests.support.services.postgres import PostgresServer
from tests.support.services.valkey import Valkey

NOW = MINUTE.index(START)
Entries = dict[str, tuple[int, Counts]]


@pytest.fixture(params=POSTGRES)
async def database(
    request: pytest.FixtureRequest, server_of: Callable[[str], PostgresServer]
) -> AsyncIterator[str]:
    """The URL of an empty database."""
    async with server_of(request.param.removeprefix("postgres")).database() as url:
        yield url


@pytest.fixture(params=["memory", "sqlite", "redis", *POSTGRES])
async def ledger(
    request: pytest.FixtureRequest, tmp_path: Path, server_of: Callable[[str], PostgresServer]
) -> AsyncIterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
    elif request.param == "sqlite":
        file = SqliteLedger(tmp_path / "usage.db")
        yield file
        await file.close()
    elif request.param in POSTGRES:
        async with server_of(request.param.removeprefix("postgres")).database(SCHEMA) as url:
            table = await PostgresLedger.open(url)
            yield table
            await table.close()
    else:
        with Valkey() as server:
            link = Link(parse_address(server.url), StillClock(), new_prefix())
            assert await link.probe()
            yield RedisLedger(link)
            await link.close()


def batch(number: int, entries: Entries, writer: str = "w") -> UsageBatch:
    return UsageBatch(writer, number, entries)


async def test_a_batch_offered_again_is_counted_once(ledger: Ledger) -> None:
    first = batch(1, {"a": (NOW, (1, 2, 3, 4, 5)), "b": (NOW, (1, 1, 1, 1, 1))})
    second = batch(2, {"a": (NOW, (1, 2, 3, 4, 5))})
    for offered in (first, first, second, first, second):
        await ledger.add(offered)
    await ledger.add(batch(1, {"a": (NOW, (0, 0, 1, 0, 0))}, writer="another"))
    assert await ledger.read("a", MINUTE, NOW, NOW) == {NOW: (2, 4, 7, 8, 10)}
    assert await ledger.read("b", MINUTE, NOW, NOW) == {NOW: (1, 1, 1, 1, 1)}


async def test_minutes_add_up_to_their_hour_and_day(ledger: Ledger) -> None:
    for later in range(150):
        await ledger.add(batch(later + 1, {"k": (NOW + later, (1, 0, 10, 0, 0))}))
    for tier in (MINUTE, HOUR, DAY):
        first, last = tier.index(NOW * 60), tier.index((NOW + 149) * 60)
        found = await ledger.read("k", tier, first, last)
        assert sorted(found) == list(range(first, last + 1))
        assert sum(counts[2] for counts in found.values()) == 1500


async def test_a_read_gives_its_stretch_and_its_key_only(ledger: Ledger) -> None:
    for later in range(10):
        counted = (NOW + later, (0, 0, later, 0, 0))
        await ledger.add(batch(later + 1, {"a": counted, "b": counted}))
    found = await ledger.read("a", MINUTE, NOW + 3, NOW + 5)
    assert found == {NOW + later: (0, 0, later, 0, 0) for later in (3, 4, 5)}
    assert await ledger.read("a", MINUTE, NOW - 500, NOW - 1) == {}
    assert await ledger.read("c", DAY, 0, 10**6) == {}


async def test_totals_are_the_sums_of_what_reads_give(ledger: Ledger) -> None:
    for later in range(90):
        counted = (NOW + later, (1, 0, later, 2, 0))
        await ledger.add(batch(later + 1, {"a": counted, "b": counted, "c": counted}))
    asked = ["a", "b", *(f"none{n}" for n in range(248))]
    first, last = NOW + 3, NOW + 72
    found = await ledger.totals(asked, MINUTE, first, last)
    counts = (await ledger.read("a", MINUTE, first, last)).values()
    assert found == dict.fromkeys(("a", "b"), tuple(map(sum, zip(*counts, strict=True))))
    assert found["a"][0] == 70
    assert await ledger.totals(["a"], MINUTE, NOW - 500, NOW - 1) == {}
    assert await ledger.totals([], DAY, 0, 10**6) == {}
    days = await ledger.totals(["c"], DAY, DAY.index(START), DAY.index(START) + 1)
    assert days["c"][0] == 90


async def test_many_keys_in_one_batch_are_all_counted(ledger: Ledger) -> None:
    entries: Entries = {f"k{n}": (NOW, (n, 0, 0, 0, 1)) for n in range(600)}
    await ledger.add(batch(1, entries))
    for n in (0, 24, 25, 249, 250, 599):
        assert await ledger.read(f"k{n}", MINUTE, NOW, NOW) == {NOW: (n, 0, 0, 0, 1)}


async def test_a_file_keeps_its_counts_when_it_is_opened_again(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "usage.db")
    await ledger.add(batch(1, {"k": (NOW, (1, 2, 3, 4, 5))}))
    await ledger.close()
    again = SqliteLedger(tmp_path / "usage.db")
    assert await again.read("k", DAY, 0, 10**6) == {DAY.index(START): (1, 2, 3, 4, 5)}
    await again.close()


async def test_a_file_forgets_what_is_no_longer_shown(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "usage.db")
    later = NOW + MINUTE.kept // 60 + 60
    await ledger.add(batch(1, {"k": (NOW, (1, 0, 0, 0, 0))}))
    await ledger.add(batch(1, {"k": (later, (1, 0, 0, 0, 0))}, writer="after a restart"))
    assert await ledger.read("k", MINUTE, 0, 10**9) == {later: (1, 0, 0, 0, 0)}
    assert len(await ledger.read("k", HOUR, 0, 10**9)) == 2
    await ledger.close()


async def test_a_database_keeps_the_counts_of_all_who_add_to_it_at_once(database: str) -> None:
    ledgers = [await PostgresLedger.open(database) for _ in range(3)]
    entries: Entries = {f"k{n}": (NOW, (1, 0, n, 0, 0)) for n in range(200)}
    for number in (1, 2, 3):
        await asyncio.gather(
            *(
                ledger.add(batch(number, entries, writer=str(place)))
                for place, ledger in enumerate(ledgers)
                for _ in range(2)
            )
        )
    for ledger in ledgers:
        assert await ledger.read("k7", DAY, 0, 10**6) == {DAY.index(START): (9, 0, 63, 0, 0)}
        await ledger.close()


async def test_a_database_forgets_what_is_no_longer_shown(database: str) -> None:
    ledger = await PostgresLedger.open(database)
    later = NOW + MINUTE.kept // 60 + 60
    await ledger.add(batch(1, {"k": (NOW, (1, 0, 0, 0, 0))}))
    await ledger.add(batch(1, {"k": (later, (1, 0, 0, 0, 0))}, writer="another process"))
    assert await ledger.read("k", MINUTE, 0, 10**9) == {later: (1, 0, 0, 0, 0)}
    assert len(await ledger.read("k", HOUR, 0, 10**9)) == 2
    # Whoever else adds to it is not forgotten.
    await ledger.add(batch(1, {"k": (NOW, (1, 0, 0, 0, 0))}))
    assert len(await ledger.read("k", HOUR, 0, 10**9)) == 2
    await ledger.close()


async def test_usage_waits_while_it_cannot_be_stored_and_is_counted_once(database: str) -> None:
    ledger = await PostgresLedger.open(database)
    meter = Meter(ledger, StillClock())
    connection = await asyncpg.connect(database)
    async with connection.transaction():
        await connection.execute("LOCK TABLE audit_gateway.usage")
        meter.count("k", requests=1)
        assert not await meter.flush()
        meter.count("k", requests=2)
    assert await meter.flush()
    [row] = await meter.rows("k", 60, 60)
    assert row.requests == 3
    await connection.close()
    await ledger.close()
