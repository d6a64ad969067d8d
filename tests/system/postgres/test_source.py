"""A table that somebody else made and writes to: each committed row is one event, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from gateway.adapters.postgres import source as postgres_source
from gateway.adapters.postgres.log import PostgresLog
from gateway.adapters.postgres.source import TableSource, preparation, prepare
from gateway.adapters.postgres.table import TableSettings
from gateway.clock import SystemClock
from gateway.errors import GatewayError, InvalidSetting
from tests.support.services.postgres import PostgresServer, installations
from tests.system.postgres.followed import (
    COLUMNS,
    NAME,
    SOURCE,
    TABLE,
    add,
    add_one,
    events,
    following,
)
from tests.system.postgres.writers import Writers, eventually, everything, naive_reader, until_head


@pytest.fixture
async def sql(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    await connection.execute(TABLE)
    yield connection
    connection.terminate()


@pytest.fixture
async def prepared(database: str, sql: asyncpg.Connection) -> str:
    await prepare(database, SOURCE)
    return database


@pytest.mark.slow
async def test_rows_that_64_writers_put_into_a_table_of_theirs_come_once_and_densely(
    prepared: str, sql: asyncpg.Connection, rows: int
) -> None:
    left_open = await asyncpg.connect(prepared)
    await left_open.execute("BEGIN")
    await add(left_open, ["left open"])
    async with following(prepared) as log, following(prepared):
        writers = Writers(prepared, rows, seed=3, insert=add)
        by_key = f"SELECT id, code FROM {NAME} WHERE id > $1 ORDER BY id LIMIT 5000"
        async with naive_reader(prepared, by_key) as naive:
            await writers.run(64)
        await until_head(log, len(writers.committed), seconds=180)
        await left_open.execute("COMMIT")
        await until_head(log, len(writers.committed) + 1)
        found = await everything(log)
        assert len(found) == len(set(found)) == len(writers.committed) + 1 > rows
        assert set(found) == writers.committed | {"left open"}
        assert found[-1] == "left open"
        assert min(writers.rolled_back, writers.savepoints) > 0
        assert writers.committed - naive, "reading by `id > last` would have been as good"
    await left_open.close()


async def scanned(sql: asyncpg.Connection) -> int:
    """Rows of the table and its indexes that were read so far by gateways, which have ended."""

    async def ended() -> bool:
        # A process of the server tells what it has read before it leaves this list.
        return not await sql.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'audit-gateway' AND datname = current_database()"
        )

    await eventually(ended)
    await sql.execute("SELECT pg_stat_force_next_flush()")
    await sql.execute("SELECT pg_stat_clear_snapshot()")
    read: int = await sql.fetchval(
        "SELECT sum(idx_tup_read + coalesce(seq_tup_read, 0))::bigint FROM pg_stat_user_tables"
        " JOIN pg_stat_user_indexes USING (relid) WHERE relid = $1::text::regclass",
        NAME,
    )
    return read


async def collected(url: str, sql: asyncpg.Connection, more: int) -> int:
    """The rows that a source reads to collect so many."""
    before = await scanned(sql)
    table = await TableSource.open(url, SOURCE, SystemClock())
    assert await table.collect() == more
    await table.close()
    return await scanned(sql) - before


async def test_only_new_rows_are_read_while_a_transaction_stays_open(
    prepared: str, sql: asyncpg.Connection
) -> None:
    async with following(prepared):
        pass
    left_open = await asyncpg.connect(prepared)
    await left_open.execute("BEGIN")
    await add(left_open, [f"uncommitted {number}" for number in range(1000)])
    await add(sql, [f"old {number}" for number in range(1900)])
    assert await collected(prepared, sql, 1900) >= 2900
    await add(sql, [f"new {number}" for number in range(10)])
    assert await collected(prepared, sql, 10) <= 20
    await left_open.close()


async def test_rows_from_before_the_column_are_not_searched_for_those_that_come_late(
    database: str, sql: asyncpg.Connection
) -> None:
    await add(sql, [f"old {number}" for number in range(3000)])
    await prepare(database, SOURCE)
    # They all have one number.
    await sql.execute(f"ANALYZE {NAME}")
    async with following(database) as log:
        await until_head(log, 3000)
        late = await asyncpg.connect(database)
        await late.execute("BEGIN")
        await add(late, ["late"])
        await add(sql, ["new"])
        await until_head(log, 3001)
    await late.execute("COMMIT")
    assert await collected(database, sql, 1) <= 20
    await late.close()


async def test_columns_and_paths_in_json_become_members(
    prepared: str, sql: asyncpg.Connection
) -> None:
    async with following(prepared) as log:
        await sql.execute(
            f"INSERT INTO {NAME} (code, happened, verb, who, org, result, level, payload, amount)"
            " VALUES ('p-1', '2026-01-31 13:00:00.25+01', 'Refund made', 'u-9', 'acme', 'DENIED',"
            ' 9, \'{"user": {"name": "Zoë"},  "urn": "bill:7", "n": 1e40}\','
            " 12345678901234567890.123456789)"
        )
        [event] = await events(log, 1)
        members = event.members()
        assert (event.tenant, event.category, event.action) == (
            "acme", "billing", "Refund_made",
        ), event.json  # fmt: skip
        assert (event.outcome, event.severity, event.actor) == ("denied", 6, "u-9")
        assert event.resources == "bill:7"
        assert members["id"] == "p-1"
        assert members["time"] == "2026-01-31T12:00:00.250000Z"
        assert members["actor"] == {"id": "u-9", "name": "Zoë"}
        # The whole row stands under `data`, digit for digit.
        assert b'"amount":12345678901234567890.123456789' in event.json
        assert b'"n": 1e40' in event.json
        assert "gateway_xid" not in members["data"]


async def test_rows_that_were_there_before_come_first_and_in_their_order(
    database: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_source, "_ROWS", 70)
    await add(sql, [f"old-{number}" for number in range(1000)])
    await prepare(database, SOURCE)
    await add(sql, ["new"])
    async with following(database) as log:
        await until_head(log, 1001)
        assert await everything(log) == [*(f"old-{number}" for number in range(1000)), "new"]
    async with following(database) as log:
        await add(sql, ["newer"])
        await until_head(log, 1002)
        assert await everything(log, after=1000) == ["new", "newer"]


async def test_rows_that_make_no_event_become_marked_ones_and_hold_up_nothing(
    prepared: str, sql: asyncpg.Connection
) -> None:
    async with following(prepared) as log:
        await add_one(sql, code="fine", verb="pay")
        await add_one(sql, code="no verb", org="acme")
        await add_one(sql, code="large", verb="pay", org="acme", note="x" * 300_000)
        await add_one(sql, code="empty", verb="pay", note=None, payload=None)
        await sql.execute(
            f"INSERT INTO {NAME} (code, verb, note)"
            " SELECT 'gigantic', 'pay', string_agg(md5(n::text), '')"
            " FROM generate_series(1, 60000) AS n"
        )
        await add_one(sql, code="forged", verb="login", org="gateway")
        await sql.execute(
            f"INSERT INTO {NAME} (code, verb, happened) VALUES ('late', 'pay', 'infinity')"
        )
        await add_one(sql, code="twice", verb="pay", payload='{"a":1,"a":2}')
        await add_one(sql, code="é\n", verb="pay")
        await add_one(sql, code="also fine", verb="pay")
        found = [event.members() for event in await events(log, 10)]
        by_key = {event["data"].get("key"): event for event in found}
        assert found[0]["id"] == "fine"
        assert found[-1]["id"] == "also fine"
        assert found[-2]["id"] == f"{NAME}:9", "an id that fits none is made of the key"
        rejected = [event for event in found if event["category"] == "gateway.rejected"]
        assert [event["data"]["key"] for event in rejected] == ["2", "5", "6", "7", "8"]
        reasons = {
            event["data"]["key"]: event["data"]["rejected_item"]["reason"] for event in rejected
        }
        assert by_key["2"]["tenant"] == "acme"
        assert "verb: the record has none, which makes the event's action" in reasons["2"]
        assert reasons["5"] == "the row is too large"
        assert "tenant" in reasons["6"]
        assert "not a time" in reasons["7"]
        [large] = [event for event in found if event["id"] == "large"]
        assert (large["category"], large["tenant"], large["action"]) == ("billing", "acme", "pay")
        assert large["data"]["truncated"]["bytes"] > 300_000
        assert large["data"]["truncated"]["cut"] == ["data.note"]


async def test_the_log_keeps_what_its_source_changes_or_forgets(
    prepared: str, sql: asyncpg.Connection
) -> None:
    async with following(prepared) as log:
        await add(sql, ["a", "b"])
        before = [event.json for event in await events(log, 2)]
        await sql.execute(f"UPDATE {NAME} SET verb = 'innocent'; DELETE FROM {NAME} WHERE id = 1")
        await add(sql, ["c"])
        assert [event.json for event in await events(log, 3)][:2] == before


async def test_a_followed_table_and_ingest_make_one_log(
    prepared: str, sql: asyncpg.Connection, draft: Any
) -> None:
    async with following(prepared) as log:
        await add(sql, ["from the table"])
        await until_head(log, 1)
        await log.append([[draft(id="by request")]])
        assert await everything(log) == ["from the table", "by request"]


async def test_a_gateway_that_hangs_while_it_follows_is_passed_by(
    prepared: str, sql: asyncpg.Connection
) -> None:
    hanging = await asyncpg.connect(
        prepared,
        server_settings={
            "search_path": "audit_gateway", "idle_in_transaction_session_timeout": "2s",
        },
    )  # fmt: skip
    async with following(prepared) as log:
        await hanging.execute("BEGIN")

        async def taken() -> bool:
            return bool(await hanging.fetchval(postgres_source._TURN, NAME))

        await eventually(taken)
        await add(sql, ["a"])
        await until_head(log, 1, seconds=4)
    hanging.terminate()


async def test_preparing_is_one_statement_that_is_shown_before_it_is_run(
    database: str, sql: asyncpg.Connection
) -> None:
    statement = await preparation(database, SOURCE)
    assert statement == (
        f"ALTER TABLE {NAME} ADD COLUMN gateway_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),"
        " ADD UNIQUE (gateway_xid, id)"
    )
    with pytest.raises(GatewayError) as caught:
        await TableSource.open(database, SOURCE, SystemClock())
    assert caught.value.code == "table_not_prepared"
    assert statement in caught.value.detail
    relfilenode = await sql.fetchval("SELECT pg_relation_filenode($1::text::regclass)", NAME)
    await prepare(database, SOURCE)
    assert relfilenode == await sql.fetchval(
        "SELECT pg_relation_filenode($1::text::regclass)", NAME
    ), "the table is not rewritten"
    assert await preparation(database, SOURCE) is None
    await prepare(database, SOURCE)


async def test_a_mapping_that_cannot_work_is_refused_in_words(
    database: str, sql: asyncpg.Connection
) -> None:
    for source, words in [
        (
            TableSettings("nothing", COLUMNS),
            "no table public.nothing that this user can see; name it",
        ),
        (
            TableSettings(NAME, {**COLUMNS, "reason": "nte"}),
            "the column nte, which .* has not; it has am",
        ),
        (
            TableSettings(NAME, {**COLUMNS, "time": "payload"}),
            "time is made of .* json; it needs a times",
        ),
        (TableSettings(NAME, {**COLUMNS, "severity": "happened"}), "it needs a whole number"),
        (
            TableSettings(NAME, {**COLUMNS, "targets": "note"}),
            "it needs json or jsonb that holds a list",
        ),
        (
            TableSettings(NAME, {**COLUMNS, "actor.id": "level.who"}),
            "level, which is integer; only json",
        ),
        (TableSettings(NAME, {"category": "=a"}), "action is needed"),
        (TableSettings(NAME, {**COLUMNS, "actor.mail": "who"}), "no member 'actor.mail'"),
    ]:
        with pytest.raises(InvalidSetting, match=words):
            await preparation(database, source)


async def test_a_table_without_a_key_is_refused(database: str, sql: asyncpg.Connection) -> None:
    await sql.execute("CREATE TABLE keyless (verb text)")
    with pytest.raises(GatewayError, match="no primary key of one column"):
        await preparation(database, TableSettings("keyless", {"category": "=a", "action": "verb"}))


async def test_a_restored_table_is_followed_again_without_its_old_rows(
    prepared: str, sql: asyncpg.Connection
) -> None:
    async with following(prepared) as log:
        await add(sql, ["a", "b"])
        await until_head(log, 2)
    await sql.execute(
        f"CREATE TABLE copy (LIKE {NAME} INCLUDING ALL); INSERT INTO copy SELECT * FROM {NAME};"
        f'DROP TABLE {NAME} CASCADE; ALTER TABLE copy RENAME TO "Audit Trail";'
        f"UPDATE {NAME} SET gateway_xid = '999999999';"
        "CREATE SEQUENCE numbers START 3;"
        f"ALTER TABLE {NAME} ALTER id SET DEFAULT nextval('numbers')"
    )
    with pytest.raises(GatewayError, match="restored") as caught:
        await TableSource.open(prepared, SOURCE, SystemClock())
    await sql.execute(caught.value.detail.split("owner: ")[1])
    async with following(prepared) as log:
        await add(sql, ["c"])
        await until_head(log, 3)
        assert await everything(log) == ["a", "b", "c"]


async def test_a_table_that_is_only_read_is_followed_behind_a_horizon(
    database: str, sql: asyncpg.Connection
) -> None:
    only_read = TableSettings(NAME, COLUMNS, read_only=True)
    other = await asyncpg.connect(database, server_settings={"application_name": "slow program"})
    await add(sql, ["old"])
    async with following(database, only_read) as log:
        await until_head(log, 1)
        await other.execute("BEGIN")
        await add(other, ["a"])
        await add(sql, ["b"])
        table = await TableSource.open(database, only_read, SystemClock())

        async def waits() -> bool:
            await table.collect()
            return await table.horizon() is not None

        await eventually(waits)
        horizon = await table.horizon()
        assert horizon is not None
        assert horizon.application == "slow program"
        assert horizon.seconds >= 0
        assert horizon.open_seconds is not None
        assert log.head == 1, "a row with a lower key may still come"
        await other.execute("COMMIT")
        await until_head(log, 3)
        assert await everything(log) == ["old", "a", "b"]
        await table.close()
    await other.close()


async def test_whoever_may_only_read_is_told_the_process_that_rows_wait_for(
    empty_database: str,
) -> None:
    sql = await asyncpg.connect(empty_database)
    await sql.execute(TABLE)
    role = f"follower_{empty_database.rpartition('_')[2]}"
    name = await sql.fetchval("SELECT current_database()")
    await sql.execute(
        f"CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {name} TO {role};"
        f"GRANT SELECT ON {NAME} TO {role}"
    )
    other = await asyncpg.connect(empty_database)
    await other.execute("BEGIN")
    await add(other, ["a"])
    await add(sql, ["b"])
    url = empty_database.replace("gateway@", f"{role}@")
    table = await TableSource.open(url, TableSettings(NAME, COLUMNS, read_only=True), SystemClock())
    log = await PostgresLog.open(url, SystemClock())
    assert await table.collect() == 0
    horizon = await table.horizon()
    assert horizon is not None
    assert horizon.pid == other.get_server_pid()
    await other.close()
    await log.close()
    await table.close()
    await sql.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    await sql.close()


async def test_a_forgotten_prepared_transaction_is_named(major: str) -> None:
    with PostgresServer(installations()[major], max_prepared_transactions="2") as server:
        connection = await asyncpg.connect(server.url())
        await connection.execute(TABLE)
        await connection.execute("BEGIN")
        await add(connection, ["a"])
        await connection.execute("PREPARE TRANSACTION 'forgotten'")
        await add(connection, ["b"])
        source = TableSettings(NAME, COLUMNS, read_only=True)
        table = await TableSource.open(server.url(), source, SystemClock())
        assert await table.collect() == 0
        horizon = await table.horizon()
        assert horizon is not None
        assert (horizon.pid, horizon.application) == (None, "prepared transaction forgotten")
        await table.close()
        await connection.close()


async def test_a_table_whose_key_does_not_grow_cannot_be_followed_by_it(
    database: str, sql: asyncpg.Connection
) -> None:
    await sql.execute("CREATE TABLE by_uuid (id uuid PRIMARY KEY, verb text)")
    columns = {"category": "=a", "action": "verb"}
    with pytest.raises(GatewayError, match="id is uuid; use the mode prepared"):
        await TableSource.open(
            database, TableSettings("by_uuid", columns, read_only=True), SystemClock()
        )
    await prepare(database, TableSettings("by_uuid", columns))
    table = await TableSource.open(database, TableSettings("by_uuid", columns), SystemClock())
    await table.close()
