"""The schema: made and brought up to date by whoever comes first, and only forwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import pytest

from gateway.clock import SystemClock
from gateway.errors import GatewayError
from gateway.event import Draft
from gateway.store import postgres
from gateway.store.postgres import migrate, migrations
from gateway.store.postgres_keys import PostgresKeys
from gateway.store.postgres_log import PostgresLog
from tests.postgres.writers import everything
from tests.services.postgres import PostgresServer

MakeDraft = Callable[..., Draft]


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
    await sql.execute("DROP ROLE nobody_here")
