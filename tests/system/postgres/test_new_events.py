"""Steps that place what is new at once, and what makes them look closely."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import msgspec
import pytest

from gateway.adapters.postgres import log as postgres_log
from gateway.adapters.postgres import rows as postgres_rows
from gateway.adapters.postgres import sequencer as postgres_sequencer
from gateway.adapters.postgres.log import PostgresLog
from gateway.adapters.postgres.rows import ARRIVING, rows_of
from gateway.clock import SystemClock
from gateway.event import Draft
from gateway.log.identity import KeyedValues
from tests.system.postgres.writers import insert

MakeDraft = Callable[..., Draft]


@pytest.fixture
async def log(database: str) -> AsyncIterator[PostgresLog]:
    opened = await PostgresLog.open(database, SystemClock(), secret=b"s")
    yield opened
    await opened.close()


async def arrive(sql: asyncpg.Connection, *drafts: Draft) -> None:
    """Rows of another gateway, which its own transaction has brought."""
    rows = rows_of(drafts, KeyedValues(b"s"), 7, 0)
    await sql.copy_records_to_table("event", records=rows, columns=ARRIVING)


async def place(log: PostgresLog, sql: asyncpg.Connection) -> None:
    """One step, and its gateway knows of it."""
    await sql.execute("SELECT sequence(true, 0, 10000)")
    await log.catch_up()


async def reasons(log: PostgresLog) -> list[str]:
    page = await log.read(0, log.head, limit=1000)
    return [event.members().get("reason", "") for event in page.events]


async def test_one_event_that_two_gateways_bring_at_once_is_placed_once(
    log: PostgresLog, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    one, other = draft(id="x-5", reason="one"), draft(id="x-5", reason="other")
    async with sql.transaction():
        # One step sees all of these, as they are there at once.
        for brought in (one, other, one, draft(id="x-6", reason="new")):
            await arrive(sql, brought)
    await place(log, sql)
    assert await reasons(log) == ["one", "other", "new"]
    assert await sql.fetchval("SELECT count(*) FROM event") == 3
    assert (await log.append([[other, one]]))[0].duplicates == 2


@pytest.mark.parametrize("known", ["x-1", "x-9"])
async def test_a_known_event_among_new_ones_is_found_wherever_its_id_lies(
    log: PostgresLog, draft: MakeDraft, known: str
) -> None:
    there = draft(id=known, reason="known")
    await log.append([[there], [draft(id="x-5", reason="middle")]])
    new = [draft(id=f"x-{number}", reason="new") for number in (0, 2, 7, 12)]
    [result] = await log.append([[*new[:2], there, *new[2:]]])
    assert (result.accepted, result.duplicates) == (4, 1)
    assert await reasons(log) == ["known", "middle", *["new"] * 4]


async def test_a_row_without_keyed_values_is_placed_beside_those_that_have_them(
    log: PostgresLog, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    async with sql.transaction():
        await insert(sql, ["a"])
        await arrive(sql, draft(id="b-1", reason="new"))
    await place(log, sql)
    assert await reasons(log) == ["", "new"]
    # It has no content that could be another, so that its id decides.
    [result] = await log.append([[draft(tenant="acme", id="a"), draft(id="b-2", reason="newer")]])
    assert (result.accepted, result.duplicates) == (1, 1)


async def test_a_name_that_was_given_is_taken_for_new_events(
    log: PostgresLog, draft: MakeDraft
) -> None:
    await log.append([[draft(id="x", reason="one"), draft(id="x", reason="two")]])
    given = (await log.read(0, 2, limit=2)).events[1].members()["id"]
    [result] = await log.append([[draft(id="y-1"), draft(id=given, reason="three")]])
    assert (result.accepted, result.conflicts) == (2, 1)
    assert len(await log.find(given, None)) == 1


async def test_of_what_two_gateways_append_together_each_content_is_there_once(
    log: PostgresLog, database: str, draft: MakeDraft
) -> None:
    other = await PostgresLog.open(database, SystemClock(), secret=b"s")
    try:
        batches = [[draft(id=f"n-{n % 90}", reason=str(n % 180)) for n in range(s, s + 40)]
                   for s in range(0, 400, 20)]  # fmt: skip
        appends = [gateway.append([batch]) for batch in batches for gateway in (log, other)]
        results = [one for result in await asyncio.gather(*appends) for one in result]
    finally:
        await other.close()
    sent = {(one.id, one.content) for batch in batches for one in batch}
    assert sum(result.accepted for result in results) == len(sent) == log.head
    assert sum(result.accepted + result.duplicates for result in results) == 2 * 20 * 40
    assert len(set(await reasons(log))) == 180


async def test_what_has_no_content_is_placed_when_its_id_is_new(
    log: PostgresLog, draft: MakeDraft
) -> None:
    bare = [msgspec.structs.replace(draft(id=f"z-{n}"), content=b"") for n in range(3)]
    assert (await log.append([bare]))[0].accepted == 3
    assert (await log.append([[*bare, draft(id="z-3")]]))[0].duplicates == 3


async def test_an_append_places_its_own_events_and_need_not_ask_where_they_stand(
    log: PostgresLog, monkeypatch: pytest.MonkeyPatch, draft: MakeDraft
) -> None:
    # Looks all the time, and would find what an append brings before its own step does.
    monkeypatch.setattr(postgres_sequencer, "_BUSY_SECONDS", 0.0)
    monkeypatch.setattr(postgres_sequencer, "_APPEND_SECONDS", 3600.0)
    asked = 0
    places = log._places

    async def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await places(*arguments)

    monkeypatch.setattr(log, "_places", counted)
    for batch in range(40):
        await log.append([[draft(id=f"x-{batch}-{n}") for n in range(100)]])
    # One look may have been under way before each began; that is not what this is about.
    assert asked < 20


async def test_large_batches_are_brought_and_looked_for_in_parts_between_which_others_go_on(
    log: PostgresLog, draft: MakeDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (postgres_rows, postgres_log):
        monkeypatch.setattr(module, "PART", 10)
    first = [draft(id=f"x-{number}", reason=str(number)) for number in range(95)]
    second = [draft(id=f"x-{number}", reason=str(number % 40)) for number in range(120)]
    rounds = 0

    async def count_rounds() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(count_rounds())
    rows = await log._rows(first, 7, 0)
    assert rounds >= 9
    others.cancel()
    assert rows == rows_of(first, log.values, 7, 0)
    [brought] = await log.append([first])
    assert (brought.accepted, brought.duplicates) == (95, 0)
    # Of these 40 are there, 55 have another's id, and 25 are new.
    halves = await log.append([second[:60], second[60:]])
    assert [(one.accepted, one.duplicates, one.conflicts) for one in halves] == [
        (20, 40, 20), (60, 0, 35),
    ]  # fmt: skip
    assert log.head == 95 + 80
    again = await log.append([second])
    assert (again[0].accepted, again[0].duplicates) == (0, 120)
