"""A table that a program of somebody else writes to, and gateways that follow it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from gateway.adapters.postgres.log import PostgresLog
from gateway.adapters.postgres.source import TableSource
from gateway.adapters.postgres.table import TableSettings
from gateway.clock import SystemClock
from gateway.event import Event
from tests.system.postgres.writers import until_head

TABLE = """
CREATE TABLE "Audit Trail" (
    id bigserial PRIMARY KEY, code text, happened timestamptz, verb text, who text, org text,
    result text, level int, payload json, amount numeric, note text
)
"""
NAME = 'public."Audit Trail"'
COLUMNS = {
    "id": "code",
    "time": "happened",
    "tenant": "org",
    "category": "=billing",
    "action": "verb",
    "outcome": "result",
    "severity": "level",
    "actor.id": "who",
    "actor.name": "payload.user.name",
    "target.urn": "payload.urn",
    "reason": "note",
}
SOURCE = TableSettings(NAME, COLUMNS)


async def add(connection: asyncpg.Connection, ids: Sequence[str]) -> None:
    await connection.execute(
        f"INSERT INTO {NAME} (code, verb, org) SELECT id, 'pay', 'acme'"
        " FROM unnest($1::text[]) WITH ORDINALITY AS given (id, place) ORDER BY place",
        ids,
    )


async def add_one(connection: asyncpg.Connection, **columns: Any) -> None:
    names, places = ", ".join(columns), ", ".join(f"${n}" for n in range(1, len(columns) + 1))
    await connection.execute(f"INSERT INTO {NAME} ({names}) VALUES ({places})", *columns.values())


@asynccontextmanager
async def following(url: str, source: TableSettings = SOURCE) -> AsyncIterator[PostgresLog]:
    """A gateway that follows the table."""
    log = await PostgresLog.open(url, SystemClock())
    table = await TableSource.open(url, source, SystemClock())
    task = asyncio.create_task(table.watch(log.poll_now))
    try:
        yield log
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await table.close()
        await log.close()


async def events(log: PostgresLog, count: int) -> list[Event]:
    await until_head(log, count)
    return (await log.read(log.floor, log.head, limit=1000)).events
