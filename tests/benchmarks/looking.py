"""Looking: a page of the newest events beside one of the oldest, and a search beside a plain scan.

Within this process, over a socket, on the embedded store. Both sides of a ratio are taken in turns,
so that a busy machine slows both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import apsw

from gateway.clock import SystemClock
from gateway.ingest.decode import decode_events
from gateway.ingest.ids import new_ids
from gateway.log.ports import Log
from gateway.runtime.compose import running
from gateway.settings.declarations import SECTIONS, Settings
from gateway.settings.look import LookSettings
from gateway.settings.server import ServerSettings
from tests.benchmarks import payload

# It stands in no event but the records of these searches.
WORD = "nowhere-at-all"
PAGE = 100
_PAGES = 40
_PART = 1000


def cost(folder: Path, log: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of a page in both orders, and seconds to search the log, and to scan it."""
    return asyncio.run(_cost(folder / f"looking-{log}", log, rounds))


async def _cost(folder: Path, log: int, rounds: int) -> dict[str, Any]:
    given = {
        "server": ServerSettings(port=0),
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

        async def page(**parameters: str) -> Any:
            async with session.get(
                started.url + "/v1/events", params=parameters, headers=headers
            ) as answer:
                assert answer.status == 200, await answer.text()
                return await answer.json()

        async def search() -> None:
            parameters = {"text": WORD, "order": "desc", "category": "bench.**"}
            found = await page(**parameters)
            while found["has_more"]:
                found = await page(**parameters, before=found["cursor"])
            assert found["events"] == []

        async def scan() -> None:
            await asyncio.to_thread(_scan, folder / "log.db")

        rest = {"limit": str(PAGE), "category": "bench.**"}
        asc, desc = await _in_turns(
            lambda: page(**rest), lambda: page(**rest, order="desc"), _PAGES * rounds
        )
        text, plain = await _in_turns(search, scan, max(rounds, 3))
    return {
        "log": log,
        "asc_ms": asc * 1e3,
        "desc_ms": desc * 1e3,
        "text_seconds": text,
        "scan_seconds": plain,
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
            payload.posted(data={"n": number}).encode()
            for number in range(begin, min(begin + _PART, count))
        ]
        await log.append([decode_events(items, ids)])


def _scan(path: Path) -> None:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        sql = "SELECT count(*) FROM event WHERE instr(body, ?)"
        connection.execute(sql, (WORD.encode(),)).fetchone()
    finally:
        connection.close()
