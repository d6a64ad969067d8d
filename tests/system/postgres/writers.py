"""Programs that write into the log's table by SQL, and readers that check what comes out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import asyncpg

from gateway.log.ports import Log
from tests.support.machine_time import patience

_INSERT = """
INSERT INTO audit_gateway.event
    (severity, has_time, id, tenant, category, action, outcome, actor, resources, tail)
SELECT 1, false, id, 'acme', 'auth', 'user.login', 'unknown', '', '',
       convert_to(format('"id":"%s","tenant":"acme","category":"auth","action":"user.login"}', id),
                  'UTF8')
  FROM unnest($1::text[]) WITH ORDINALITY AS given (id, place) ORDER BY place
"""


async def insert(connection: asyncpg.Connection, ids: Sequence[str]) -> None:
    """Rows with these ids, in this order, in the transaction that is open."""
    await connection.execute(_INSERT, ids)


async def begin_partition(sql: asyncpg.Connection) -> None:
    """As if the current one had become old or large."""
    await sql.execute("SELECT tend_partitions(0, -9223372036854775807, NULL)")
    await sql.execute("SELECT tend_partitions(0, NULL, NULL)")


Insert = Callable[[asyncpg.Connection, Sequence[str]], Awaitable[None]]


class Writers:
    """Concurrent transactions of random sizes that commit late, roll back, or use savepoints."""

    def __init__(self, url: str, rows: int, seed: int, insert: Insert = insert) -> None:
        self._url = url
        self._insert = insert
        self._wanted = rows
        self._random = random.Random(seed)
        self.committed: set[str] = set()
        self.rolled_back = 0
        self.savepoints = 0

    async def run(self, count: int) -> None:
        await asyncio.gather(*(self._write(f"w{number}") for number in range(count)))

    async def _write(self, name: str) -> None:
        rng = random.Random(self._random.random())
        connection = await asyncpg.connect(self._url)
        made = 0
        while len(self.committed) < self._wanted:
            ids = [f"{name}-{made + place}" for place in range(rng.randint(1, 60))]
            made += len(ids)
            await self._transaction(connection, ids, rng)
        await connection.close()

    async def _transaction(
        self, connection: asyncpg.Connection, ids: list[str], rng: random.Random
    ) -> None:
        kept = ids
        transaction = connection.transaction()
        await transaction.start()
        how = rng.random()
        if how < 0.2:
            # A savepoint that stays: its rows carry a subtransaction's xmin.
            self.savepoints += 1
            async with connection.transaction():
                await self._insert(connection, ids)
        elif how < 0.4:
            half = len(ids) // 2
            kept = ids[:half]
            await self._insert(connection, kept)
            self.savepoints += 1
            savepoint = connection.transaction()
            await savepoint.start()
            await self._insert(connection, ids[half:])
            await savepoint.rollback()
        else:
            await self._insert(connection, ids)
        await asyncio.sleep(rng.random() * 0.02)
        if rng.random() < 0.1:
            await transaction.rollback()
            self.rolled_back += len(kept)
        else:
            await transaction.commit()
            self.committed.update(kept)


@asynccontextmanager
async def naive_reader(url: str, query: str) -> AsyncIterator[set[str]]:
    """The ids that one gets who follows a table as one would without a sequencer.

    `query` gives rows whose first column is above `$1`, in its order, and whose second is the id.
    """
    seen: set[str] = set()
    stop = asyncio.Event()

    async def follow() -> None:
        connection = await asyncpg.connect(url)
        last = -1
        while True:
            # It has looked once more after the end.
            ended = stop.is_set()
            rows = await connection.fetch(query, last)
            seen.update(row[1] for row in rows)
            if ended and not rows:
                break
            last = rows[-1][0] if rows else last
            await asyncio.sleep(0.005)
        await connection.close()

    following = asyncio.create_task(follow())
    try:
        yield seen
    finally:
        stop.set()
        await following


async def everything(log: Log, after: int = 0) -> list[str]:
    """The ids of all events behind `after`, having checked that their offsets are dense."""
    found: list[str] = []
    at = after
    while at < log.head:
        page = await log.read(at, log.head, limit=1000)
        offsets = [event.offset for event in page.events]
        assert offsets == list(range(at + 1, page.reached + 1))
        found += [event.members()["id"] for event in page.events]
        at = page.reached
    return found


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
    """Look again and again until it holds."""
    async with asyncio.timeout(patience(seconds)):
        while not await condition():  # noqa: ASYNC110 - figures to look at
            await asyncio.sleep(0.005)


async def until_head(log: Log, head: int, seconds: float = 30.0) -> None:
    """Wait until the log has come to that offset."""
    moved = asyncio.Event()
    log.on_append(moved.set)
    async with asyncio.timeout(patience(seconds)):
        while log.head < head:
            moved.clear()
            await moved.wait()
