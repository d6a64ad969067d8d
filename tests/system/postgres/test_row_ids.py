"""Each row of a followed table is in the log once, whoever has taken its id."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from gateway.adapters.postgres.log import PostgresLog
from gateway.adapters.postgres.source import TableSource, look_at, prepare
from gateway.adapters.postgres.table import TableSettings
from gateway.clock import SystemClock
from gateway.event import Draft, Event
from tests.system.postgres.followed import COLUMNS, NAME, SOURCE, TABLE, add, add_one, following
from tests.system.postgres.writers import everything, until_head

MakeDraft = Callable[..., Draft]
# Without a column for their ids, rows have ids that everybody can guess.
GUESSABLE = TableSettings(NAME, {**COLUMNS, "id": "note"})


@pytest.fixture
async def sql(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    await connection.execute(TABLE)
    await prepare(database, SOURCE)
    yield connection
    connection.terminate()


def names_of(ids: list[str]) -> list[str]:
    """The ids without what follows from the content of a row whose own id was taken."""
    return [re.sub("~[A-Z2-7]{16}$", "~", one) for one in ids]


async def found(log: PostgresLog, event_id: str) -> Event:
    [event] = await log.find(event_id, None)
    assert event.members()["id"] == event_id, "its own JSON says so too"
    return event


async def test_a_row_whose_id_somebody_has_sent_before_comes_under_another(
    database: str, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    async with following(database, GUESSABLE) as log:
        forged = [f"{NAME}:1", f"{NAME}:3"]
        await log.append([[draft(id=name, tenant="acme") for name in forged]])
        await add(sql, ["a", "b", "c"])
        await until_head(log, 5)
        ids = await everything(log)
        assert ids[:2] == forged
        assert names_of(ids[2:]) == [f"{NAME}:1~", f"{NAME}:2", f"{NAME}:3~"]
        codes = []
        for event_id in ids[2:]:
            event = await found(log, event_id)
            assert event.tenant == "acme"
            codes.append(event.members()["data"]["code"])
        assert codes == ["a", "b", "c"]
        assert log.renamed == 2


async def test_rows_with_one_id_in_a_column_that_is_not_unique_are_as_many_events(
    database: str, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    async with following(database) as log:
        await log.append([[draft(id="taken", tenant="acme")]])
        await add(sql, ["same", "same", 'with "quotes" \\', "taken", 'with "quotes" \\', "same"])
        await until_head(log, 7)
        ids = await everything(log)
        assert names_of(ids) == [
            "taken", "same", "same~", 'with "quotes" \\', "taken~", 'with "quotes" \\~', "same~",
        ]  # fmt: skip
        assert len(set(ids)) == len(ids)
        assert (await found(log, ids[5])).members()["data"]["code"] == 'with "quotes" \\'
        assert log.renamed == 4
        # In another tenant they are taken by nobody.
        await add_one(sql, code="same", verb="pay", org="other")
        await until_head(log, 8)
        assert (await everything(log))[-1] == "same"


async def test_a_row_whose_key_is_used_again_is_another_event(
    database: str, sql: asyncpg.Connection
) -> None:
    async with following(database, GUESSABLE) as log:
        await add(sql, ["before"])
        await until_head(log, 1)
        await sql.execute(f"TRUNCATE {NAME} RESTART IDENTITY")
        await add(sql, ["after"])
        await until_head(log, 2)
        first, second = await everything(log)
        assert first == f"{NAME}:1"
        assert second.startswith(f"{NAME}:1~")
        assert (await found(log, second)).members()["data"]["code"] == "after"


async def test_a_restored_table_brings_none_of_its_rows_twice_under_whatever_id(
    database: str, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    async with following(database) as log:
        await log.append([[draft(id="taken", tenant="acme")]])
        await add(sql, ["a", "a", "taken"])
        await until_head(log, 4)
    await sql.execute("UPDATE audit_gateway.source_step SET source_table = 0")
    await sql.execute(f"UPDATE {NAME} SET gateway_xid = pg_current_xact_id()")
    async with following(database) as log:
        await add(sql, ["a"])
        await until_head(log, 5)
        await add(sql, ["end"])
        await until_head(log, 6)
        ids = await everything(log)
        assert names_of(ids) == ["taken", "a", "a~", "taken~", "a~", "end"]
        assert ids[2] != ids[4]


async def test_rows_whose_events_retention_took_come_again_only_after_a_dump_was_restored(
    database: str, sql: asyncpg.Connection
) -> None:
    async with following(database) as log:
        await add(sql, ["a", "b"])
        await until_head(log, 2)
        await log.trim(None, 0)
    for restored in (False, True):
        if restored:
            await sql.execute("UPDATE audit_gateway.source_step SET source_table = 0")
        async with following(database) as log:
            await add(sql, ["later"])
            head = 6 if restored else 3
            await until_head(log, head)
            found = await everything(log, after=2)
        assert names_of(found) == ["later", "a", "b", "later~"][: head - 2]


@pytest.mark.parametrize("to_read_only", [True, False])
async def test_a_table_whose_mode_is_changed_brings_no_row_twice_and_misses_none(
    database: str, sql: asyncpg.Connection, to_read_only: bool
) -> None:
    only_read = TableSettings(NAME, COLUMNS, read_only=True)
    before, after = (SOURCE, only_read) if to_read_only else (only_read, SOURCE)
    async with following(database, before) as log:
        await add(sql, ["a", "b"])
        await until_head(log, 2)
    async with following(database, after) as log:
        await add(sql, ["c"])
        await until_head(log, 3)
        await add(sql, ["a"])
        await until_head(log, 4)
        assert names_of(await everything(log)) == ["a", "b", "c", "a~"]


async def test_a_table_that_is_only_read_goes_on_behind_its_keys_after_a_restore(
    database: str, sql: asyncpg.Connection
) -> None:
    only_read = TableSettings(NAME, COLUMNS, read_only=True)
    async with following(database, only_read) as log:
        await add(sql, ["a", "b"])
        await until_head(log, 2)
        await log.trim(None, 0)
    await sql.execute("UPDATE audit_gateway.source_step SET source_table = 0")
    async with following(database, only_read) as log:
        await add(sql, ["c"])
        await until_head(log, 3)
        assert await everything(log, after=log.floor) == ["c"]


async def test_an_id_that_no_index_keeps_unique_is_known(
    database: str, sql: asyncpg.Connection
) -> None:
    cases: list[tuple[dict[str, str], str, str | None]] = [
        ({}, "", "code"),
        ({}, "(code)", None),
        ({}, "(code, org)", None),
        ({}, "(code, level)", "code"),
        ({}, "(code) WHERE level > 1", "code"),
        ({}, "(lower(code))", "code"),
        ({"id": "payload.id"}, "(code)", "payload.id"),
        ({"id": "=always"}, "", "=always"),
        ({"id": "id"}, "", None),
    ]
    for columns, index, doubtful in cases:
        if index:
            await sql.execute(f"CREATE UNIQUE INDEX one ON {NAME} {index}")
        table = await look_at(database, TableSettings(NAME, {**COLUMNS, **columns}))
        assert table.doubtful_id == doubtful, (columns, index)
        without = {member: column for member, column in COLUMNS.items() if member != "id"}
        assert (await look_at(database, TableSettings(NAME, without))).doubtful_id is None, index
        await sql.execute("DROP INDEX IF EXISTS one")
    source = await TableSource.open(database, SOURCE, SystemClock())
    assert source.prefix == f"{NAME}:"
    await source.close()
