"""Backup and restore: events and offsets survive, and no old cursor means something else."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import asyncpg
import pytest

from gateway.adapters.postgres.log import PostgresLog, begin_new_life
from gateway.clock import SystemClock
from gateway.errors import Unavailable
from gateway.event import Draft
from gateway.filters.scope import Scope
from gateway.log.ports import ScanHint
from tests.support.machine_time import patience
from tests.support.services.postgres import PostgresCopy, PostgresServer, installations
from tests.system.postgres.writers import everything, insert

MakeDraft = Callable[..., Draft]


def dump_and_restore(major: str, url: str, into: str) -> None:
    programs = installations()[major]
    dump = subprocess.run(
        [programs / "pg_dump", url], capture_output=True, check=True, timeout=patience(60)
    )
    subprocess.run(
        [programs / "psql", "--quiet", "--set=ON_ERROR_STOP=1", into],
        input=dump.stdout, capture_output=True, check=True, timeout=patience(60),
    )  # fmt: skip


@pytest.mark.parametrize("younger", [True, False], ids=["younger", "older"])
async def test_a_dump_that_is_restored_elsewhere_goes_on_under_another_epoch(
    major: str, database: str, sql: asyncpg.Connection, postgres: PostgresServer,
    own_postgres: PostgresServer, draft: MakeDraft, younger: bool,
) -> None:  # fmt: skip
    # Into a server whose transactions have lower numbers, or higher ones.
    busy = sql if younger else await asyncpg.connect(own_postgres.url())
    for _ in range(3000):
        await busy.execute("SELECT pg_current_xact_id()")
    if busy is not sql:
        await busy.close()
    log = await PostgresLog.open(database, SystemClock())
    await log.append([[draft(id="a"), draft(id="b"), draft(id="c")]])
    await log.trim(None, 300)
    epoch, floor = log.epoch, log.floor
    await log.close()
    await insert(sql, ["not yet placed"])
    dump_and_restore(major, database, own_postgres.url())

    restored = await PostgresLog.open(own_postgres.url(), SystemClock())
    assert restored.epoch != epoch
    assert (restored.head, restored.floor) == (4, floor)
    expected = ["a", "b", "c", "not yet placed"]
    assert await everything(restored, after=floor) == expected[floor:]
    [again] = await restored.append([[draft(id="c"), draft(id="d")]])
    assert (again.accepted, again.duplicates) == (1, 1)

    # Until the numbers of the old transactions come round again, and beyond.
    connection = await asyncpg.connect(own_postgres.url())
    for _ in range(3500):
        await connection.execute("SELECT pg_current_xact_id()")
    await restored.append([[draft(id="e")]])
    assert await everything(restored, after=floor) == [*expected[floor:], "d", "e"]
    assert await restored.trim(None, 0) == 6 - floor
    await restored.trim(None, 0)
    assert await connection.fetchval("SELECT count(*) FROM audit_gateway.event WHERE id < 'd'") == 0
    name = restored.epoch
    await restored.close()
    again_opened = await PostgresLog.open(own_postgres.url(), SystemClock())
    assert again_opened.epoch == name, "only once"
    await again_opened.close()
    await connection.close()


async def test_a_restored_log_whose_table_has_the_same_number_gets_another_epoch_too(
    major: str, database: str, own_postgres: PostgresServer, draft: MakeDraft
) -> None:
    log = await PostgresLog.open(database, SystemClock())
    await log.append([[draft(id="a"), draft(id="b")]])
    epoch = log.epoch
    await log.close()
    dump_and_restore(major, database, own_postgres.url())
    # Young servers number their tables alike.
    connection = await asyncpg.connect(
        own_postgres.url(), server_settings={"search_path": "audit_gateway"}
    )
    await connection.execute("UPDATE log SET event_table = 'event'::regclass")
    await connection.close()
    restored = await PostgresLog.open(own_postgres.url(), SystemClock())
    assert restored.epoch != epoch
    await restored.append([[draft(id="c"), draft(id="b")]])
    assert await everything(restored) == ["a", "b", "c"]
    await restored.close()


async def test_a_base_backup_that_is_started_as_it_is_says_nothing_and_is_given_an_epoch_by_hand(
    own_postgres: PostgresServer, draft: MakeDraft
) -> None:
    log = await PostgresLog.open(own_postgres.url(), SystemClock())
    await log.append([[draft(id="a")]])
    epoch = log.epoch
    await log.close()
    with PostgresCopy(own_postgres, standby=False, max_connections="40") as copy:
        restored = await PostgresLog.open(copy.url(), SystemClock())
        assert restored.epoch == epoch
        await restored.close()
        assert await begin_new_life(copy.url()) != epoch


async def test_a_new_life_on_request_has_another_epoch_and_the_same_events(
    database: str, draft: MakeDraft
) -> None:
    log = await PostgresLog.open(database, SystemClock())
    await log.append([[draft(id="a")]])
    epoch = await begin_new_life(database)
    assert epoch != log.epoch
    with pytest.raises(Unavailable, match="restart the gateway"):
        await log.append([[draft(id="b")]])
    # What is read would get the cursors of the life that is over.
    every = ScanHint(Scope(), (Scope(),), complete=True)
    for call in (
        lambda: log.read(0, 1, limit=1),
        lambda: log.read(1, 1, limit=1),
        lambda: log.read_raw(0, 1, limit=1, hint=every),
        lambda: log.find("a", None),
        lambda: log.last_before(0),
        lambda: log.trim(None, 0),
        log.catch_up,
    ):
        with pytest.raises(Unavailable) as caught:
            await call()
        assert caught.value.code == "log_replaced"
    await log.close()
    log = await PostgresLog.open(database, SystemClock())
    assert log.epoch == epoch
    await log.append([[draft(id="b")]])
    assert (await everything(log))[:1] == ["a"]
    await log.close()
