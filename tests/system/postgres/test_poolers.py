"""Poolers between gateway and server: a session of one's own is enough, a shared one is refused."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg
import pytest

from gateway.adapters.postgres.keys import PostgresKeys
from gateway.adapters.postgres.log import PostgresLog
from gateway.clock import SystemClock
from gateway.errors import GatewayError
from gateway.event import Draft
from tests.system.postgres.pooler import Pooler
from tests.system.postgres.writers import everything

MakeDraft = Callable[..., Draft]


async def test_a_pooler_that_gives_each_client_a_session_is_no_hindrance(
    database: str, draft: MakeDraft
) -> None:
    async with Pooler(database, transaction=False).running() as url:
        log, keys = await PostgresLog.open(url, SystemClock()), await PostgresKeys.open(url)
        await log.append([[draft(id="a"), draft(id="b")]])
        assert await everything(log) == ["a", "b"]
        assert await keys.all() == []
        await log.close()
        await keys.close()


async def test_a_pooler_that_shares_sessions_is_refused_and_its_sessions_stay_as_they_were(
    empty_database: str,
) -> None:
    async with Pooler(empty_database, transaction=True).running() as url:
        for opening in (PostgresLog.open(url, SystemClock()), PostgresKeys.open(url)):
            with pytest.raises(GatewayError, match="pool_mode = session") as caught:
                await opening
            assert caught.value.code == "database_unusable"
        connection = await asyncpg.connect(url, statement_cache_size=0)
        assert await connection.fetchval("SHOW search_path") == '"$user", public'
        assert await connection.fetchval("SELECT to_regnamespace('audit_gateway')") is None
        await connection.close()


async def test_settings_that_are_sent_after_the_greeting_hold(database: str) -> None:
    log = await PostgresLog.open(database, SystemClock())
    async with log._writes.connection("x") as connection:
        assert await connection.fetchval("SHOW statement_timeout") == "10s"
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        assert await connection.fetchval("SHOW application_name") == "audit-gateway"
    async with log._arrivals.connection("x") as connection:
        assert await connection.fetchval("SHOW synchronous_commit") == "off"
    await log.close()
