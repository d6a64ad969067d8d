"""Looking: a page of the newest events beside one of the oldest, a search beside a plain scan, and
counts beside a plain GROUP BY.

Within this process, over a socket, on the embedded store or on PostgreSQL. Both sides of a ratio
are taken in turns, so that a busy machine slows both.

`beside` is how late the loop of a gateway in a process of its own was while several looked at
everything and others had live streams.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import apsw
import asyncpg

from gateway.adapters.postgres.database import SCHEMA
from gateway.clock import SystemClock
from gateway.ingest.decode import decode_events
from gateway.ingest.ids import new_ids
from gateway.log.counts import BLOCK_OFFSETS
from gateway.log.ports import Log
from gateway.looking.count_cache import CountCache
from gateway.runtime.compose import running
from gateway.settings.declarations import SECTIONS, Settings, StoreSettings
from gateway.settings.look import LookSettings
from gateway.settings.server import ServerSettings
from tests.benchmarks import payload
from tests.benchmarks.postgres import running_database

# It stands in no event but the records of these searches.
WORD = "nowhere-at-all"
# Tenant of one event in so many.
RARE, _ONE_IN = "rare", 8
# In SQLite, and in PostgreSQL.
GROUP_BY_HOUR = (
    "SELECT recorded_at / 3600000000, count(*) FROM event GROUP BY 1",
    "SELECT recorded_at / 3600000000, count(*) FROM sequenced GROUP BY 1",
)
SCAN = (
    f"SELECT count(*) FROM event WHERE instr(body, CAST('{WORD}' AS BLOB))",
    f"SELECT count(*) FROM event WHERE position('{WORD}'::bytea IN tail) > 0",
)
PAGE = 100
_PAGES = 40
_PART = 1000


def cost(folder: Path, log: int, rounds: int, *, postgres: bool = False) -> dict[str, Any]:
    """Milliseconds of a page in both orders, and seconds to search and to count the log, and of
    plain statements that do the same."""
    with ExitStack() as stack:
        url = stack.enter_context(running_database())[1] if postgres else ""
        return asyncio.run(_cost(folder / f"looking-{log}-{postgres}", log, rounds, url))


async def _cost(folder: Path, log: int, rounds: int, url: str) -> dict[str, Any]:
    given = {
        "server": ServerSettings(port=0),
        "store": StoreSettings(url=url),
        # Long enough for one request to search all: what is measured is the work.
        "look": LookSettings(offsets=10 * log, rendered_events=10 * log, seconds=60),
    }
    sections = {name: given.get(name) or of() for name, of in SECTIONS.items()}
    async with (
        running(Settings(data=folder, **sections), None) as started,
        aiohttp.ClientSession() as session,
    ):
        await _fill(started.context.log, log)
        headers = {"Authorization": f"Bearer {started.first_key}"}

        async def get(path: str, parameters: dict[str, str]) -> Any:
            async with session.get(
                started.url + path, params=parameters, headers=headers
            ) as answer:
                assert answer.status == 200, await answer.text()
                return await answer.json()

        async def page(**parameters: str) -> Any:
            return await get("/v1/events", parameters)

        async def count(**parameters: str) -> None:
            counted = await get("/v1/counts", {"since": "5h", "step": "1m", **parameters})
            assert counted["complete"]

        async def count_anew() -> None:
            started.context.count_cache = CountCache()
            await count(tenant=RARE)

        async def group() -> None:
            await _plain(GROUP_BY_HOUR, folder, url)

        async def search() -> None:
            parameters = {"text": WORD, "order": "desc", "category": "bench.**"}
            found = await page(**parameters)
            while found["has_more"]:
                found = await page(**parameters, before=found["cursor"])
            assert found["events"] == []

        async def scan() -> None:
            await _plain(SCAN, folder, url)

        rest = {"limit": str(PAGE), "category": "bench.**"}
        asc, desc = await _in_turns(
            lambda: page(**rest), lambda: page(**rest, order="desc"), _PAGES * rounds
        )
        text, plain = await _in_turns(search, scan, max(rounds, 3))
        everything, grouped = await _in_turns(count, group, max(rounds, 3))
        of_tenant, grouped_again = await _in_turns(count_anew, group, max(rounds, 3))
        more = []
        for _ in range(max(rounds, 3)):
            await _fill(started.context.log, BLOCK_OFFSETS)
            begun = time.perf_counter()
            await count(tenant=RARE)
            more.append(time.perf_counter() - begun)
    return {
        "store": "PostgreSQL" if url else "SQLite",
        "log": log,
        "asc_ms": asc * 1e3,
        "desc_ms": desc * 1e3,
        "text_seconds": text,
        "scan_seconds": plain,
        "count_all_seconds": everything,
        "count_tenant_seconds": of_tenant,
        "count_again_seconds": median(more),
        "group_seconds": median([grouped, grouped_again]),
    }


async def _in_turns(
    one: Callable[[], Awaitable[Any]], other: Callable[[], Awaitable[Any]], turns: int
) -> tuple[float, float]:
    """Median seconds of both."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for times, work in zip(taken, (one, other), strict=True):
            begun = time.perf_counter()
            await work()
            times.append(time.perf_counter() - begun)
    return median(taken[0]), median(taken[1])


async def _fill(log: Log, count: int) -> None:
    ids = new_ids(SystemClock().now)
    for begin in range(0, count, _PART):
        items = [
            payload.posted(
                data={"n": number}, tenant="common" if number % _ONE_IN else RARE
            ).encode()
            for number in range(begin, min(begin + _PART, count))
        ]
        await log.append([decode_events(items, ids)])


async def _plain(statements: tuple[str, str], folder: Path, url: str) -> None:
    """Execute the one of SQLite in a thread, or that of PostgreSQL."""
    if not url:
        await asyncio.to_thread(_execute, folder / "log.db", statements[0])
        return
    connection = await asyncpg.connect(url, server_settings={"search_path": SCHEMA})
    try:
        await connection.fetch(statements[1])
    finally:
        await connection.close()


def _execute(path: Path, sql: str) -> None:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.execute(sql).fetchall()
    finally:
        connection.close()
