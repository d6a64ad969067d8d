"""Inventory: a page of very many keys, and a review of the access of a part of them.

Within this process, over a socket. `stop_ms` is the longest time that the event loop had no turn
for others, of the processor alone.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import apsw
import msgspec

from gateway.access.grants.grant import parse_grant
from gateway.access.keys.key import Key
from gateway.access.usage.access import PULLED
from gateway.adapters.sqlite.provisioning import key_rows
from gateway.ingest.gateway_event import ACCESS, new_gateway_event
from gateway.log.ports import Log
from gateway.runtime.compose import running
from gateway.settings.declarations import SECTIONS, Settings
from gateway.settings.server import ServerSettings
from tests.support.loop_stops import longest_stop

OWNERS = 10
PAGE = "/v1/keys?limit=50&order=last_used&q=key&unused=30d"
REVIEW = "/v1/review?format=html&owner=team+0"
_AT_ONCE = 1000
_DAY = 86400


def cost(folder: Path, keys: int, records: int, rounds: int) -> dict[str, Any]:
    """Seconds of a page of `keys` keys, and of a review of a tenth of them over so many records."""
    return asyncio.run(_cost(folder / f"inventory-{keys}", keys, records, rounds))


async def _cost(folder: Path, keys: int, records: int, rounds: int) -> dict[str, Any]:
    given = {"server": ServerSettings(port=0)}
    sections = {name: given.get(name) or of() for name, of in SECTIONS.items()}
    async with (
        running(Settings(data=folder, **sections), None) as started,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        store, now = started.context.key_store, started.context.clock.now()
        [first] = await store.all()
        made = [_key(first, number, now) for number in range(keys)]
        await _fill(store, made)
        await started.context.enforcement.poll_keys()
        await _record(started.context.log, [key.id for key in made], records)
        headers = {"Authorization": f"Bearer {started.first_key}"}

        async def get(path: str) -> None:
            async with session.get(started.url + path, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()

        took: dict[str, list[float]] = {PAGE: [], REVIEW: []}
        stops = []
        for _ in range(rounds):
            for path, seconds in took.items():
                begun = time.perf_counter()
                _, stop = await longest_stop(get(path))
                seconds.append(time.perf_counter() - begun)
                stops.append(stop)
    return {
        "keys": keys, "reviewed": keys // OWNERS, "records": records,
        "page_seconds": median(took[PAGE]), "review_seconds": median(took[REVIEW]),
        "stop_ms": max(stops),
    }  # fmt: skip


async def _fill(store: Any, keys: list[Key]) -> None:
    """Store keys in one transaction, or commits would take most of the time."""

    def store_all(connection: apsw.Connection) -> None:
        with connection:
            for key in keys:
                key_rows.insert(connection, key)

    await store._changing.run(store_all)


def _key(like: Key, number: int, now: float) -> Key:
    grant = {"actions": ["pull"], "categories": ["auth.**"], "tenants": [f"t{number % 100}"]}
    return msgspec.structs.replace(
        like, id=f"{number:012}", name=f"key {number}", owner=f"team {number % OWNERS}",
        grants=(parse_grant(grant),), created_at=now - 40 * _DAY, changed_at=now - 40 * _DAY,
    )  # fmt: skip


async def _record(log: Log, key_ids: list[str], records: int) -> None:
    for start in range(0, records, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, records))
        drafts = [
            new_gateway_event(
                id=f"use-{number}", category=ACCESS, action=PULLED,
                by=key_ids[number % len(key_ids)],
                data={"count": 3, "attempted": "pull", "route": "/v1/events", "events": 5,
                      "parameters": [{"tenant": [f"t{number % 100}"]}]},
            )
            for number in numbers
        ]  # fmt: skip
        await log.append([drafts])
