"""What a step of the sequencer costs, in looks at indexes: these are the same on a busy machine."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg

from gateway.adapters.postgres.log import PostgresLog
from gateway.clock import SystemClock
from gateway.event import Draft
from tests.system.postgres.writers import eventually

MakeDraft = Callable[..., Draft]
LOOKS = "SELECT idx_scan FROM pg_stat_all_indexes WHERE indexrelname = 'sequenced_key'"
READ = LOOKS.replace("idx_scan", "idx_tup_read")
EVENTS = 50


async def test_a_step_looks_once_for_each_event_that_may_be_there(
    database: str, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    log = await PostgresLog.open(database, SystemClock(), secret=b"s")
    await log.append([[draft(id=f"first-{n}") for n in range(EVENTS)]])
    await log.append([[draft(id=f"second-{n}") for n in range(EVENTS)]])
    # Made after all that are there: one look for all of each batch.
    for begin in range(EVENTS, 29 * EVENTS, EVENTS):
        await log.append([[draft(id=f"later-{begin + n}") for n in range(EVENTS)]])
    await log.close()

    async def told() -> bool:
        return bool(await sql.fetchval(LOOKS) >= EVENTS)

    # Connections tell what they have done at their end, which is soon after this.
    await eventually(told)
    # On a busy machine some steps are tried again, and look again; one look for each event would be
    # thirty times as many.
    assert await sql.fetchval(LOOKS) < 15 * EVENTS


async def test_events_of_one_id_cost_the_same_however_many_there_are(
    database: str, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    log = await PostgresLog.open(database, SystemClock(), secret=b"s")
    batches = [[draft(id="x", reason=f"{b}-{n}") for n in range(EVENTS)] for b in range(4)]
    for batch in batches:
        [told] = await log.append([batch])
        assert (told.accepted, told.duplicates) == (EVENTS, 0)
    for batch in batches:
        [told] = await log.append([batch])
        assert (told.accepted, told.duplicates) == (0, EVENTS)
    await log.close()

    async def told_all() -> bool:
        return bool(await sql.fetchval(READ) >= 4 * EVENTS)

    await eventually(told_all)
    # Where each is compared with all of its id, it is more than 60,000.
    assert await sql.fetchval(READ) < 100 * EVENTS
