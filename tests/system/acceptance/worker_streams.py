"""Clients of a gateway whose processes come and go: they come back until they have everything."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

_AGAIN_SECONDS = 0.05
_PAUSE_SECONDS = 0.05
LOST = (aiohttp.ClientError, ConnectionError, TimeoutError)


def offset_of(cursor: str) -> int:
    return int(cursor.rpartition("-")[2])


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@dataclass
class Producer:
    """Sends batches one after another, each again until it is acknowledged."""

    url: str
    key: str
    name: str
    session: aiohttp.ClientSession
    stop: asyncio.Event
    # Ids by offset, as acknowledged.
    acknowledged: dict[int, str] = field(default_factory=dict)
    refusals: set[str] = field(default_factory=set)
    sent: list[str] = field(default_factory=list)

    async def run(self) -> None:
        for number in itertools.count():
            size = 1 if self.stop.is_set() else random.randint(1, 10)
            ids = [f"{self.name}-{number}-{item}" for item in range(size)]
            self.sent += ids
            await self._deliver(ids)
            if self.stop.is_set():
                return
            # The readers are what takes time.
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _deliver(self, ids: list[str]) -> None:
        body = orjson.dumps([{"id": one, "category": "test", "action": "test"} for one in ids])
        headers = {**bearer(self.key), "Content-Type": "application/json"}
        while True:
            try:
                async with self.session.post(
                    f"{self.url}/v1/events", data=body, headers=headers
                ) as answer:
                    status, said = answer.status, await answer.json(content_type=None)
            except LOST:
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            if status == 201:
                break
            assert (status, answer.headers["Retry-After"]) == (503, "1"), said
            self.refusals.add(said["code"])
            await asyncio.sleep(_AGAIN_SECONDS)
        first, last = offset_of(said["first_cursor"]), offset_of(said["last_cursor"])
        assert (said["accepted"] in (0, len(ids)), last - first) == (True, len(ids) - 1)
        self.acknowledged.update(zip(range(first, last + 1), ids, strict=True))


@dataclass
class Subscriber:
    """Reads a stream over SSE, and resumes with its cursor whenever the connection is lost."""

    url: str
    key: str
    session: aiohttp.ClientSession
    open: bool = False
    # What it got, in order: offset and id of each event.
    got: list[tuple[int, str]] = field(default_factory=list)
    cursor: str = ""
    connections: int = 0
    end: dict[str, Any] | None = None

    async def run(self, enough: Callable[[Subscriber], bool]) -> None:
        """Until it has enough, or the gateway says that it should not come back."""
        while not enough(self):
            try:
                await self._read(enough)
            except LOST:
                pass
            self.open = False
            if self.end is not None and not self.end["reconnect"]:
                return
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _read(self, enough: Callable[[Subscriber], bool]) -> None:
        headers = {**bearer(self.key), "Accept": "text/event-stream"}
        if self.cursor:
            headers["Last-Event-ID"] = self.cursor
        begin = "" if self.cursor else "?from=start"
        async with self.session.get(f"{self.url}/v1/stream{begin}", headers=headers) as answer:
            assert answer.status in (200, 503), await answer.text()
            if answer.status == 503:
                return
            self.connections += 1
            self.open = True
            block: dict[str, str] = {}
            async for line in answer.content:
                name, _, value = line.decode().rstrip("\n").partition(":")
                if name:
                    block[name] = value.strip()
                    continue
                self._take(block)
                block = {}
                if enough(self):
                    return

    def _take(self, block: dict[str, str]) -> None:
        self.cursor = block.get("id", self.cursor)
        if block.get("event") == "end":
            self.end = orjson.loads(block["data"])
        elif "data" in block and "event" not in block:
            event = orjson.loads(block["data"])
            assert event["cursor"] == self.cursor
            self.got.append((offset_of(self.cursor), event["id"]))
