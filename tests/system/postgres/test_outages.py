"""A database that is down, slow, read-only or full: refusals in words, and then life goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from gateway.access.keys import lifecycle
from gateway.adapters.postgres.keys import PostgresKeys
from gateway.adapters.postgres.log import PostgresLog
from gateway.clock import SystemClock
from gateway.errors import Unavailable
from gateway.event import Draft
from tests.support.machine_time import patience
from tests.support.services.postgres import PostgresServer
from tests.system.postgres.writers import eventually, everything, insert, until_head

MakeDraft = Callable[..., Draft]


@pytest.fixture
async def log(database: str) -> AsyncIterator[PostgresLog]:
    opened = await PostgresLog.open(database, SystemClock())
    yield opened
    await opened.close()


async def appended(log: PostgresLog, draft: Draft) -> None:
    """Append, however often it takes."""
    async with asyncio.timeout(patience(30)):
        while True:
            try:
                await log.append([[draft]])
                return
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_a_server_that_is_down_is_unavailable_and_then_back(
    own_postgres: PostgresServer, draft: MakeDraft, caplog: pytest.LogCaptureFixture
) -> None:
    url = own_postgres.url()
    log, keys = await PostgresLog.open(url, SystemClock()), await PostgresKeys.open(url)
    await log.append([[draft(id="a")]])
    heads: list[int] = []
    log.on_append(lambda: heads.append(log.head))
    await asyncio.to_thread(own_postgres.stop)
    calls = [
        lambda: log.append([[draft(id="b")]]),
        lambda: log.read(0, 1, limit=1),
        lambda: log.find("a", None),
        lambda: log.last_before(0),
        lambda: log.trim(0, None),
        lambda: keys.all(),
        lambda: keys.get("k"),
        lambda: keys.change("k", lambda found: lifecycle.revoke(found, 0.0, "")),
    ]
    # At first over connections that have died, and then over none.
    for _ in range(2):
        for call in calls:
            with pytest.raises(Unavailable) as caught:
                await call()
            assert caught.value.retry_after >= 1
            assert "127.0.0.1" not in caught.value.detail
    for opening in (PostgresLog.open(url, SystemClock()), PostgresKeys.open(url)):
        with pytest.raises(Unavailable, match="cannot be reached"):
            await opening
    assert (log.head, log.floor) == (1, 0), "what is known stays known"
    await asyncio.to_thread(own_postgres.start)
    connection = await asyncpg.connect(url)
    await insert(connection, ["by another program"])
    await connection.close()
    await until_head(log, 2, seconds=10)
    assert heads == [2]
    await log.append([[draft(id="b")]])
    assert await everything(log) == ["a", "by another program", "b"]
    assert await keys.all() == []
    assert caplog.text.count("the database is back") == 1
    await log.close()
    await keys.close()


async def test_a_database_that_accepts_no_writes_can_still_be_read(
    database: str, log: PostgresLog, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    await log.append([[draft(id="a")]])
    name = await sql.fetchval("SELECT current_database()")

    async def reconnect() -> None:
        await sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'audit-gateway' AND datname = current_database()"
        )

    await sql.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await reconnect()
    async with asyncio.timeout(patience(10)):
        while True:
            with pytest.raises(Unavailable) as caught:
                await log.append([[draft(id="b")]])
            if caught.value.code == "store_read_only":
                break
    assert "accepts no writes" in caught.value.detail
    assert await everything(log) == ["a"]
    # The primary again, without anybody closing the connections to what was one.
    await sql.execute("BEGIN READ WRITE")
    await sql.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await sql.execute("COMMIT")
    await appended(log, draft(id="b"))
    assert await everything(log) == ["a", "b"]


async def test_a_database_without_free_connections_is_unavailable_until_there_are_some(
    own_postgres: PostgresServer, draft: MakeDraft
) -> None:
    url = own_postgres.url()
    log = await PostgresLog.open(url, SystemClock())
    await log.append([[draft(id="a")]])
    taken = [await asyncpg.connect(url)]
    async with asyncio.timeout(patience(20)):
        while True:
            await taken[0].execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'audit-gateway'"
            )
            try:
                while True:
                    taken.append(await asyncpg.connect(url))
            except asyncpg.TooManyConnectionsError:
                pass
            try:
                await log.append([[draft(id="b")]])
            except Unavailable as error:
                if "no connection left" in error.detail:
                    break
    with pytest.raises(Unavailable):
        await PostgresLog.open(url, SystemClock())
    for connection in taken:
        await connection.close()
    await appended(log, draft(id="b"))
    assert await everything(log) == ["a", "b"]
    await log.close()


async def test_a_table_that_is_locked_for_long_is_unavailable_and_nothing_is_stored(
    log: PostgresLog, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    async with sql.transaction():
        await sql.execute("LOCK TABLE event IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Unavailable) as caught:
            await log.append([[draft(id="a")]])
        assert caught.value.code == "store_slow"
    await appended(log, draft(id="b"))
    assert await everything(log) == ["b"]


async def test_changes_of_keys_are_seen_while_everything_else_about_keys_waits(
    database: str, sql: asyncpg.Connection
) -> None:
    keys = await PostgresKeys.open(database)
    async with sql.transaction():
        await sql.execute("LOCK TABLE note IN ACCESS EXCLUSIVE MODE")
        waiting = [asyncio.create_task(keys.note("kind", "name")) for _ in range(20)]

        async def busy() -> bool:
            await sql.execute("SELECT pg_stat_clear_snapshot()")
            count: int = await sql.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND application_name = 'audit-gateway' AND datname = current_database()"
            )
            return count == 2

        await eventually(busy)
        assert await keys.newest_revision() == 0
        assert await keys.changed_since(0) == (0, [])
        assert await keys.roles_since(0) == (0, {})
        assert not any(task.done() for task in waiting)
    assert await asyncio.gather(*waiting) == [None] * 20
    await keys.close()


async def test_a_connection_lost_during_an_append_leaves_the_outcome_open_and_says_so(
    log: PostgresLog, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    await log.append([[draft(id="first")]])
    async with sql.transaction():
        await sql.execute("LOCK TABLE event IN ACCESS EXCLUSIVE MODE")
        appending = asyncio.create_task(log.append([[draft(id="a")]]))

        async def cut() -> bool:
            return bool(
                await sql.fetchval(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'audit-gateway' AND wait_event_type = 'Lock'"
                    " AND datname = current_database() AND query LIKE 'COPY%'"
                )
            )

        await eventually(cut)
        with pytest.raises(Unavailable) as caught:
            await appending
        assert caught.value.code == "outcome_unknown"
        assert "send them again with the same ids" in caught.value.detail
    await appended(log, draft(id="a"))
    assert await everything(log) == ["first", "a"]


async def test_a_log_that_has_lost_what_was_acknowledged_is_never_silently_resumed(
    log: PostgresLog, sql: asyncpg.Connection, draft: MakeDraft, caplog: pytest.LogCaptureFixture
) -> None:
    await log.append([[draft(id="a"), draft(id="b")]])
    # As after a failover to a standby that had not received the last step.
    await sql.execute("DELETE FROM step WHERE head = 2; DELETE FROM sequenced; DELETE FROM event")
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            await log.append([[draft(id="c")]])
    assert caught.value.code == "log_replaced"
    assert "restart the gateway" in caplog.text


async def test_a_missing_partition_is_made_when_rows_need_it(
    log: PostgresLog, sql: asyncpg.Connection, draft: MakeDraft
) -> None:
    await sql.execute("SELECT setval('event_seq', 7 << 24)")
    await log.append([[draft(id="a")]])
    await log.append([[draft(id="b")]])
    assert await everything(log) == ["a", "b"]
    assert await sql.fetchval("SELECT tableoid::regclass::text FROM event LIMIT 1") == "event_7"
