"""The schema: made and brought up to date by whoever comes first, and only forwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import msgspec
import pytest

from gateway.access.grants.role import Role
from gateway.access.keys import lifecycle
from gateway.access.keys.key import Key
from gateway.adapters.migrations import Migrated
from gateway.adapters.postgres import database as postgres
from gateway.adapters.postgres.database import migrate, scripts
from gateway.adapters.postgres.keys import PostgresKeys
from gateway.adapters.postgres.log import PostgresLog
from gateway.clock import SystemClock
from gateway.errors import GatewayError
from gateway.event import Draft
from tests.support.services.postgres import PostgresServer
from tests.system.postgres.writers import everything, insert

MakeDraft = Callable[..., Draft]


@pytest.fixture
def database(empty_database: str) -> str:
    return empty_database


BASELINES = {part: min(numbers) for part, numbers in scripts().items()}
VERSION = sum(max(numbers) for numbers in scripts().values())


def names(**versions: int) -> list[str]:
    """What a database has noted that was brought to these versions number by number."""
    return [
        f"postgres_{part}_{number:03}"
        for part, version in versions.items()
        for number in range(1, version + 1)
    ]


async def note(sql: asyncpg.Connection, noted: list[str]) -> None:
    """Have the migration table hold these names and no others."""
    await sql.execute("DELETE FROM migration")
    await sql.executemany("INSERT INTO migration (name) VALUES ($1)", [(name,) for name in noted])


async def test_a_new_database_gets_the_baselines_at_their_numbers(database: str) -> None:
    applied = tuple(f"{part}_{number:03}" for part, number in BASELINES.items())
    assert await migrate(database) == Migrated(0, VERSION, applied)
    assert await migrate(database) == Migrated(VERSION, VERSION, ())


async def test_a_log_brought_to_the_baseline_step_by_step_keeps_its_epoch_events_and_offsets(
    database: str, draft: MakeDraft, sql: asyncpg.Connection
) -> None:
    await migrate(database)
    await note(sql, names(keys=3, log=10, source=2, usage=1, consumers=1, destinations=1))
    # Of a log that had events before there were keyed values.
    await sql.execute("DROP INDEX sequenced_id")
    await sql.execute("CREATE UNIQUE INDEX sequenced_id ON sequenced (id, tenant)")
    await sql.execute("INSERT INTO log VALUES (true, 'k3f9xq7m2p', 'event'::regclass)")
    await sql.fetchval("SELECT begin_life('another', false)")
    await sql.execute("SELECT tend_partitions(0, NULL, NULL)")
    await insert(sql, ["a", "b"])
    assert await sql.fetchval("SELECT head FROM sequence(true, 0, 1000)") == 2
    await insert(sql, ["c"])
    assert await migrate(database) == Migrated(VERSION, VERSION, ())
    log = await PostgresLog.open(database, SystemClock())
    assert log.epoch == "k3f9xq7m2p"
    [appended] = await log.append([[draft(id="b", tenant="acme"), draft(id="d")]])
    assert (appended.accepted, appended.duplicates) == (1, 1)
    assert await everything(log) == ["a", "b", "c", "d"]
    await log.close()


async def test_keys_brought_to_the_baseline_step_by_step_are_kept(
    database: str, sql: asyncpg.Connection
) -> None:
    await migrate(database)
    await note(sql, names(keys=3, log=10, source=2, usage=1, consumers=1, destinations=1))
    key = Key(
        id="k" * 12, digest=b"", name="n", purpose="p", owner="o", grants=(), created_at=1.0,
        expires_at=2e9,
    )  # fmt: skip
    document = msgspec.json.encode(key)
    await sql.execute("INSERT INTO key VALUES ($1, $2, $3, 1)", key.id, b"d", document)
    role = msgspec.json.encode(Role(name="reader"))
    await sql.execute("INSERT INTO role (name, document) VALUES ('reader', $1)", role)
    keys = await PostgresKeys.open(database)
    [found] = await keys.all()
    assert (found.id, found.digest, found.revision) == (key.id, b"d", 1)
    assert list(await keys.roles()) == ["reader"]
    await keys.change(key.id, lambda found: lifecycle.revoke(found, 3.0, "tried"))
    assert len(await keys.unrecorded(10)) == 1
    await keys.close()


@pytest.mark.parametrize(
    ("noted", "named"),
    [
        (names(keys=3, log=9, source=2, usage=1), "postgres_log_009"),
        (names(keys=2, log=10, source=2, usage=1), "postgres_keys_002"),
        (names(log=3), "postgres_log_003"),
    ],
)
async def test_a_schema_from_before_the_baseline_is_refused_in_words_and_left_as_it_is(
    database: str, sql: asyncpg.Connection, noted: list[str], named: str
) -> None:
    await sql.execute("CREATE SCHEMA audit_gateway")
    await sql.execute("CREATE TABLE migration (name text PRIMARY KEY, applied_at timestamptz)")
    await note(sql, noted)
    with pytest.raises(GatewayError, match="too old") as caught:
        await PostgresLog.open(database, SystemClock())
    assert caught.value.code == "schema_too_old"
    assert named in caught.value.detail
    assert "`audit-gateway migrate`" in caught.value.detail
    relations = "SELECT relname FROM pg_class WHERE relnamespace = 'audit_gateway'::regnamespace"
    there = {row["relname"] for row in await sql.fetch(relations)}
    assert there == {"migration", "migration_pkey"}
    assert {row["name"] for row in await sql.fetch("SELECT name FROM migration")} == set(noted)


async def test_a_later_script_is_applied_behind_the_baseline(
    database: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(database)
    number = later(monkeypatch, "CREATE TABLE later ()")
    applied = (f"postgres_log_{number:03}",)
    assert await migrate(database) == Migrated(VERSION, VERSION + 1, applied)
    assert await sql.fetchval("SELECT to_regclass('later')::text") == "later"
    assert await migrate(database) == Migrated(VERSION + 1, VERSION + 1, ())


def later(patch: pytest.MonkeyPatch, script: str) -> int:
    """The number of a script for the log that comes behind all that there are."""
    number = max(scripts()["postgres_log"]) + 1
    known = {**scripts(), "postgres_log": {**scripts()["postgres_log"], number: script}}
    patch.setattr(postgres, "scripts", lambda: known)
    return number


async def test_many_gateways_that_start_at_once_make_one_log(
    database: str, draft: MakeDraft, sql: asyncpg.Connection
) -> None:
    logs = await asyncio.gather(*(PostgresLog.open(database, SystemClock()) for _ in range(6)))
    assert len({log.epoch for log in logs}) == 1
    noted = [row["name"] for row in await sql.fetch("SELECT name FROM migration ORDER BY 1")]
    assert noted == [f"{part}_{number:03}" for part, number in BASELINES.items()]
    for log in logs:
        await log.close()


async def test_a_log_that_is_opened_again_is_the_same(database: str, draft: MakeDraft) -> None:
    log = await PostgresLog.open(database, SystemClock())
    await log.append([[draft(id="a"), draft(id="b")]])
    await log.trim(None, 200)
    before = (log.epoch, log.head, log.floor)
    await log.close()
    log = await PostgresLog.open(database, SystemClock())
    assert (log.epoch, log.head, log.floor) == before == (log.epoch, 2, 1)
    await log.close()


async def test_schemas_of_one_database_are_logs_of_their_own(
    database: str, draft: MakeDraft
) -> None:
    one = await PostgresLog.open(database, SystemClock(), "one")
    other = await PostgresLog.open(database, SystemClock(), "other")
    await one.append([[draft(id="a")]])
    await other.append([[draft(id="b"), draft(id="a")]])
    assert await everything(one) == ["a"]
    assert await everything(other) == ["b", "a"]
    assert one.epoch != other.epoch
    for log in (one, other):
        await log.close()


async def test_a_schema_of_a_newer_version_is_refused(
    database: str, sql: asyncpg.Connection
) -> None:
    await migrate(database)
    await sql.execute("INSERT INTO migration VALUES ('postgres_log_999')")
    with pytest.raises(GatewayError, match="newer version") as caught:
        await PostgresLog.open(database, SystemClock())
    assert caught.value.code == "schema_too_new"
    assert "postgres_log_999" in caught.value.detail


async def test_a_migration_that_fails_leaves_nothing_behind(
    database: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        later(patch, "CREATE TABLE half (); SELECT 1 / 0")
        with pytest.raises(GatewayError):
            await migrate(database)
    assert await sql.fetchval("SELECT to_regnamespace('audit_gateway')") is None
    await migrate(database)


async def test_a_database_that_is_not_utf8_is_refused(postgres: PostgresServer) -> None:
    admin = await asyncpg.connect(postgres.url())
    await admin.execute("CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII'")
    with pytest.raises(GatewayError, match="UTF8") as caught:
        await PostgresLog.open(postgres.url("ascii"), SystemClock())
    assert caught.value.code == "database_unusable"
    await admin.execute("DROP DATABASE ascii")
    await admin.close()


async def test_a_name_that_is_no_schema_is_refused(database: str) -> None:
    with pytest.raises(GatewayError, match="not a name of a schema"):
        await PostgresLog.open(database, SystemClock(), "a; DROP TABLE x")


async def test_a_user_without_rights_is_told_in_words(
    postgres: PostgresServer, database: str, sql: asyncpg.Connection
) -> None:
    await sql.execute("DROP ROLE IF EXISTS nobody_here; CREATE ROLE nobody_here LOGIN")
    url = database.replace("gateway@", "nobody_here@")
    with pytest.raises(GatewayError, match="may not") as caught:
        await PostgresLog.open(url, SystemClock())
    assert caught.value.code == "database_unusable"
    statement = caught.value.detail.split("administrator: ")[1]
    await sql.execute(statement.replace("<user>", "nobody_here"))
    log = await PostgresLog.open(url, SystemClock())
    await log.close()
    await sql.execute("DROP OWNED BY nobody_here")
    await sql.execute("DROP ROLE nobody_here")
