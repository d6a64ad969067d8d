"""Clients of several replicas that come and go: each takes up again at any of them."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode

import aiohttp
import asyncpg
import orjson
from replica_wires import Chunked, Decoder, Frames, Lines, Message, pong
from worker_streams import LOST, bearer, offset_of

from tests.support.machine_time import Stopwatch, patience
from tests.system.postgres.writers import insert

TRANSPORTS = ("sse", "ndjson", "websocket")
_ACCEPT = {"sse": "text/event-stream", "ndjson": "application/x-ndjson", "websocket": "*/*"}
_AGAIN_SECONDS = (0.05, 0.25)
_ANSWER_SECONDS = 20


class Address(Protocol):
    """A replica as clients see it; `life` counts its starts."""

    number: int
    life: int
    host: str
    port: int


Choice = Callable[[], Address]


@dataclass
class Deliveries:
    """What readers got, by key, replica, life and tenth of a second."""

    events: Counter[tuple[str, int, int, int]] = field(default_factory=Counter)
    streams: Counter[tuple[str, int, int, int]] = field(default_factory=Counter)


@dataclass
class Reader:
    """Reads a stream and resumes by cursor. Every event must be behind the one before, and be
    what other readers got at that offset; with `dense`, no offset may be left out."""

    key: str
    transport: str
    choose: Choice
    log: dict[int, str]
    deliveries: Deliveries
    query: tuple[tuple[str, str], ...] = ()
    dense: bool = False
    cursor: str = ""
    offset: int = 0
    count: int = 0
    connections: int = 0
    # Of the connection that is, or was, the newest.
    at: Address | None = None
    open: bool = False
    closed_at: float = 0.0
    end: dict[str, Any] | None = None
    refused: int = 0
    ends: Counter[object] = field(default_factory=Counter)
    # The offset that is the last it wants.
    last: int = 1 << 62
    connection: _Connection | None = None

    @property
    def done(self) -> bool:
        return self.offset >= self.last

    def stop_at(self, last: int) -> None:
        """Read no further than that."""
        self.last = last
        if self.done and self.connection is not None:
            self.connection.break_off()

    async def run(self) -> None:
        """Until it has all or the gateway says that it should not come back."""
        loop = asyncio.get_running_loop()
        while not self.done:
            at = self.choose()
            try:
                _, connection = await loop.create_connection(
                    lambda at=at: _Connection(self, at), at.host, at.port
                )
            except OSError:
                pass
            else:
                await connection.over
            if self.refused or (self.end is not None and not self.end["reconnect"]):
                return
            await asyncio.sleep(random.uniform(*_AGAIN_SECONDS))

    def where(self) -> str:
        """Where it stands, for people."""
        number = self.at.number if self.at else None
        return f"{self.transport} at {number}, open={self.open}, offset {self.offset}, {self.ends}"

    def request(self, at: Address) -> bytes:
        """The request that goes on behind the cursor."""
        query = [*self.query]
        headers = {**bearer(self.key), "Host": f"{at.host}:{at.port}"}
        headers["Accept"] = _ACCEPT[self.transport]
        if not self.cursor:
            query.append(("from", "start"))
        elif self.transport == "sse":
            headers["Last-Event-ID"] = self.cursor
        else:
            query.append(("after", self.cursor))
        if self.transport == "websocket":
            headers |= {"Connection": "Upgrade", "Upgrade": "websocket"}
            headers["Sec-WebSocket-Version"] = "13"
            headers["Sec-WebSocket-Key"] = b64encode(random.randbytes(16)).decode()
        lines = [f"GET /v1/stream?{urlencode(query)} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()

    def take(self, message: Message) -> None:
        kind, content = message
        if kind == "event":
            self._take_event(content)
        elif kind == "end":
            self.end = content
            self.ends[content["code"]] += 1
        elif kind in ("bookmark", "caught-up") and content.get("cursor"):
            assert offset_of(content["cursor"]) >= self.offset, (content, self.cursor)
            self.cursor = content["cursor"]
            self.offset = offset_of(self.cursor)
        else:
            assert kind in ("caught-up", "notice"), content

    def _take_event(self, event: dict[str, Any]) -> None:
        offset = offset_of(event["cursor"])
        assert offset > self.offset, f"{offset} came after {self.offset}, over {self.transport}"
        if self.dense:
            assert offset == self.offset + 1, f"{offset} came after {self.offset}"
        if not event["category"].startswith("gateway."):
            assert self.log.setdefault(offset, event["id"]) == event["id"], offset
            self.count += 1
        self.cursor, self.offset = event["cursor"], offset


class _Connection(asyncio.Protocol):
    """One connection of a reader; `over` has what went wrong in the reader's eyes."""

    def __init__(self, reader: Reader, at: Address) -> None:
        self._reader = reader
        self._at, self._life = at, at.life
        self._head = b""
        self._decoders: list[Decoder] = []
        self._transport: asyncio.Transport
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        reader = self._reader
        reader.connection, reader.at, reader.end = self, self._at, None
        transport.write(reader.request(self._at))

    def connection_lost(self, error: Exception | None) -> None:
        self._reader.open = False
        self._reader.closed_at = time.monotonic()
        if not self.over.done():
            self.over.set_result(None)

    def data_received(self, data: bytes) -> None:
        try:
            self._take(data)
        except Exception as error:
            if not self.over.done():
                self.over.set_exception(error)
            self._transport.abort()

    def break_off(self) -> None:
        self._transport.abort()

    def _take(self, data: bytes) -> None:
        if not self._decoders:
            self._head += data
            head, mark, data = self._head.partition(b"\r\n\r\n")
            if not mark or not self._begin(head, data):
                return
        reader, before = self._reader, self._reader.count
        pieces: list[Any] = [data]
        for decoder in self._decoders:
            pieces = [found for piece in pieces for found in decoder.feed(piece)]
        for kind, content in pieces:
            if kind == "ping":
                self._transport.write(pong(content))
            else:
                reader.take((kind, content))
                if kind == "end":
                    self._transport.close()
        if reader.count > before:
            self._tally(reader.deliveries.events, reader.count - before)
            if reader.done:
                self.break_off()

    def _begin(self, head: bytes, rest: bytes) -> bool:
        """Take in the head of the answer; whether it is a stream."""
        status = int(head.split(b" ", 2)[1])
        reader = self._reader
        if status in (401, 403):
            reader.refused = status
        elif status not in (200, 101):
            assert status == 503, (head, rest)
            assert b"\r\nRetry-After: " in head, head
        if status not in (200, 101):
            reader.ends[status] += 1
            self._transport.abort()
            return False
        reader.open = True
        reader.connections += 1
        self._tally(reader.deliveries.streams, 1)
        sse = reader.transport == "sse"
        self._decoders = [Frames()] if status == 101 else [Chunked(), Lines(sse=sse)]
        return True

    def _tally(self, where: Counter[tuple[str, int, int, int]], count: int) -> None:
        tenth = int(time.monotonic() * 10)
        where[self._reader.key, self._at.number, self._life, tenth] += count


@dataclass
class Producer:
    """Sends batches one after another, each again, to any replica, until it is acknowledged."""

    key: str
    name: str
    choose: Choice
    session: aiohttp.ClientSession
    stop: asyncio.Event
    pause: float
    # Ids by offset, as acknowledged.
    acknowledged: dict[int, str] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0

    async def run(self) -> None:
        for number in itertools.count():
            ids = [f"{self.name}-{number}-{item}" for item in range(random.randint(1, 10))]
            self.sent += ids
            watch = Stopwatch()
            await self._deliver(ids)
            self.longest = max(self.longest, watch.elapsed)
            if self.stop.is_set():
                return
            await asyncio.sleep(random.uniform(0, 2 * self.pause))

    async def _deliver(self, ids: list[str]) -> None:
        body = orjson.dumps([{"id": one, "category": "test", "action": "test"} for one in ids])
        headers = {**bearer(self.key), "Content-Type": "application/json"}
        while (said := await self._post(body, headers)) is None:  # noqa: ASYNC110 - sends again
            await asyncio.sleep(random.uniform(*_AGAIN_SECONDS))
        first, last = offset_of(said["first_cursor"]), offset_of(said["last_cursor"])
        assert said["accepted"] + said["duplicates"] == len(ids), said
        assert said["accepted"] in (0, len(ids)), said
        assert last - first == len(ids) - 1, said
        self.acknowledged.update(zip(range(first, last + 1), ids, strict=True))

    async def _post(self, body: bytes, headers: dict[str, str]) -> dict[str, Any] | None:
        at = self.choose()
        url = f"http://{at.host}:{at.port}/v1/events"
        try:
            async with (
                asyncio.timeout(patience(_ANSWER_SECONDS)),
                self.session.post(url, data=body, headers=headers) as answer,
            ):
                said: dict[str, Any] = await answer.json(content_type=None)
        except LOST:
            self.answers["lost"] += 1
            return None
        if answer.status == 201:
            self.answers["201"] += 1
            return said
        assert answer.status == 503, said
        assert int(answer.headers["Retry-After"]) > 0
        self.answers[said["code"]] += 1
        return None


@dataclass
class SqlProducer:
    """Writes into the log's table by SQL, in transactions that stay open while others commit."""

    url: str
    name: str
    stop: asyncio.Event
    sent: list[str] = field(default_factory=list)

    async def run(self) -> None:
        for number in itertools.count():
            ids = [f"{self.name}-{number}-{item}" for item in range(random.randint(1, 10))]
            self.sent += ids
            while not await self._written(ids):  # noqa: ASYNC110 - tries again
                await asyncio.sleep(random.uniform(*_AGAIN_SECONDS))
            if self.stop.is_set():
                return

    async def _written(self, ids: list[str]) -> bool:
        """Whether it is known that they are; written again, they are still there once."""
        try:
            connection = await asyncpg.connect(self.url, timeout=5)
            try:
                async with connection.transaction():
                    await insert(connection, ids)
                    await asyncio.sleep(random.uniform(0, 1))
            finally:
                connection.terminate()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            return False
        return True
