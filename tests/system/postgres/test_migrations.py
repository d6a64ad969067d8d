"""The schema: made and brought up to date by whoever comes first, and only forwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import msgspec
import pytest

from gateway.access.grants.role import Role
from gateway.access.keys.key import Key
from gateway.adapters.postgres import database as postgres
from gateway.adapters.postgres.database import migrate, migrations
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


@pytest.mark.parametrize("applied", range(len(migrations()) + 1))
async def test_a_schema_of_every_earlier_version_is_brought_up_to_date(
    database: str, draft: MakeDraft, monkeypatch: pytest.MonkeyPatch, applied: int
) -> None:
    earlier = dict(list(migrations().items())[:applied])
    with monkeypatch.context() as patch:
        patch.setattr(postgres, "migrations", lambda: earlier)
        await migrate(database)
    keys = await PostgresKeys.open(database)
    log = await PostgresLog.open(database, SystemClock())
    await log.append([[draft(id="a")]])
    assert await everything(log) == ["a"]
    assert await keys.all() == []
    await log.close()
    await keys.close()


_LOG = [name for name in migrations() if name.startswith("postgres_log_")]
_KEYS = [name for name in migrations() if name.startswith("postgres_keys_")]


async def earlier(
    database: str, applied: list[str], patch: pytest.MonkeyPatch
) -> asyncpg.Connection:
    """A connection to a database as an earlier version of the program has left it."""
    with patch.context() as patched:
        scripts = {name: script for name, script in migrations().items() if name in applied}
        patched.setattr(postgres, "migrations", lambda: scripts)
        await migrate(database)
    return await asyncpg.connect(database, server_settings={"search_path": "audit_gateway"})


# The first version with which a gateway ran has the first three.
@pytest.mark.parametrize("version", range(3, len(_LOG)))
async def test_a_log_of_every_earlier_version_keeps_its_epoch_its_events_and_their_offsets(
    database: str, draft: MakeDraft, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    connection = await earlier(database, _LOG[:version], monkeypatch)
    await connection.execute("INSERT INTO log VALUES (true, 'k3f9xq7m2p', 'event'::regclass)")
    await connection.fetchval("SELECT begin_life('another', false)")
    await connection.execute("SELECT tend_partitions(0, NULL, NULL)")
    await insert(connection, ["a", "b"])
    assert await connection.fetchval("SELECT head FROM sequence(true, 0, 1000)") == 2
    await insert(connection, ["c"])
    await connection.close()
    before, now = await migrate(database)
    assert len(before) == version
    assert set(_LOG[version:]) <= set(now)
    log = await PostgresLog.open(database, SystemClock())
    assert log.epoch == "k3f9xq7m2p"
    [appended] = await log.append([[draft(id="b", tenant="acme"), draft(id="d")]])
    assert (appended.accepted, appended.duplicates) == (1, 1)
    assert await everything(log) == ["a", "b", "c", "d"]
    await log.close()


@pytest.mark.parametrize("version", range(1, len(_KEYS)))
async def test_keys_of_every_earlier_version_are_kept(
    database: str, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    connection = await earlier(database, _KEYS[:version], monkeypatch)
    key = Key(
        id="k" * 12, digest=b"", name="n", purpose="p", owner="o", grants=(), created_at=1.0,
        expires_at=2e9,
    )  # fmt: skip
    document = msgspec.json.encode(key)
    await connection.execute("INSERT INTO key VALUES ($1, $2, $3, 1)", key.id, b"d", document)
    role = msgspec.json.encode(Role(name="reader"))
    await connection.execute("INSERT INTO role (name, document) VALUES ('reader', $1)", role)
    await connection.close()
    keys = await PostgresKeys.open(database)
    [found] = await keys.all()
    assert (found.id, found.digest, found.revision) == (key.id, b"d", 1)
    assert list(await keys.roles()) == ["reader"]
    await keys.revoke(key.id, 3.0, "tried")
    assert len(await keys.unrecorded(10)) == 1
    await keys.close()


async def test_many_gateways_that_start_at_once_make_one_log(
    database: str, draft: MakeDraft, sql: asyncpg.Connection
) -> None:
    logs = await asyncio.gather(*(PostgresLog.open(database, SystemClock()) for _ in range(6)))
    assert len({log.epoch for log in logs}) == 1
    names = [row["name"] for row in await sql.fetch("SELECT name FROM migration ORDER BY 1")]
    assert names == list(migrations())
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
        scripts = {**migrations(), "postgres_log_999": "CREATE TABLE half (); SELECT 1 / 0"}
        patch.setattr(postgres, "migrations", lambda: scripts)
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
