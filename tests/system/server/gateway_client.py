"""A client of the gateway for tests: requests, raw sockets, keys and events."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from zlib import crc32

import aiohttp
import orjson
from yarl import URL

from tests.support.machine_time import Stopwatch, patience
from tests.support.machine_time import eventually as eventually

Event = dict[str, Any]
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PROBLEM = "application/problem+json"
NDJSON = "application/x-ndjson"


@dataclass
class Answer:
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)

    def lines(self) -> list[Any]:
        return [orjson.loads(line) for line in self.body.splitlines()]

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """The problem document, which must have that status and code."""
        assert self.status == status, (self.status, self.body[:500])
        assert self.headers["Content-Type"].partition(";")[0] == PROBLEM
        document: dict[str, Any] = self.json()
        assert (document["status"], document["code"]) == (status, code), document
        return document


class GatewayClient:
    """Talks to one gateway.

    `admin` is its first key. `user` is a key that may stream, pull and ingest
    everything but the gateway's own records; it is used where no other is named.
    """

    user = ""

    def __init__(self, url: str, admin: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.admin = admin
        self.session = session
        self._connections: list[asyncio.StreamWriter] = []
        parsed = URL(url)
        assert parsed.host is not None
        assert parsed.port is not None
        self.host, self.port = parsed.host, parsed.port

    async def request(
        self,
        method: str,
        path: str,
        *,
        key: str | None = "",
        params: Sequence[tuple[str, str]] | Mapping[str, str] = (),
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        data: Any = None,
    ) -> Answer:
        """One request; `key` None sends none, and "" the user's. `path` goes out as it is."""
        sent = dict(headers or {})
        if key is not None:
            sent.setdefault("Authorization", f"Bearer {key or self.user}")
        if json is not None:
            data = orjson.dumps(json)
            sent.setdefault("Content-Type", "application/json")
        if isinstance(data, bytes):
            data = BytesIO(data)
        url = URL(self.url + path, encoded=True)
        if params:
            url = url.update_query(params)
        async with (
            asyncio.timeout(patience()),
            self.session.request(
                method,
                url,
                headers=sent,
                data=data,
                skip_auto_headers=["Accept-Encoding", "Content-Type"],
            ) as response,
        ):
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Answer:
        return await self.request("POST", path, **options)

    async def make_user(self) -> None:
        actions = ["stream", "pull", "ingest"]
        self.user = await self.mint({"actions": actions, "categories": ["**"]})

    async def pull(self, key: str | None = "", **params: str) -> Any:
        """A page as JSON; `from_` is the parameter `from`."""
        if "from_" in params:
            params["from"] = params.pop("from_")
        answer = await self.get("/v1/events", key=key, params=params)
        assert answer.status == 200, answer.body
        return answer.json()

    async def send(self, *events: Event, key: str = "") -> Any:
        """Ingest events, which must be taken; returns the answer."""
        answer = await self.post("/v1/events", json=list(events), key=key)
        assert answer.status == 201, answer.body
        return answer.json()

    async def send_many(self, count: int, **members: Any) -> list[str]:
        """Ingest that many events with `data.n` counting from 0; returns their ids."""
        ids = [f"{members.get('category', 'auth')}-{time.monotonic_ns()}-{n}" for n in range(count)]
        for start in range(0, count, 1000):
            part = enumerate(ids[start : start + 1000], start)
            await self.send(*(event(id=name, data={"n": n}, **members) for n, name in part))
        return ids

    async def mint(self, *grants: dict[str, Any], **members: Any) -> str:
        """A new key with those grants."""
        body = {"name": "test", "purpose": "a test", "owner": "tests", "grants": list(grants)}
        body |= members
        answer = await self.post("/v1/keys", json=body, key=self.admin)
        assert answer.status == 201, answer.body
        key: str = answer.json()["key"]
        return key

    async def revoke(self, key: str) -> None:
        answer = await self.post(f"/v1/keys/{key_id(key)}/revoke", key=self.admin)
        assert answer.status == 200, answer.body

    async def reader_key(self, **grant: Any) -> str:
        """A new key that may stream and pull, everything unless the grant says less."""
        return await self.mint({"actions": ["stream", "pull"], "categories": ["**"], **grant})

    async def streams(self) -> int:
        """How many streams the gateway says are open."""
        return await self.metric("streams")

    async def reasons(self) -> set[str]:
        """Codes of what is wrong with this process, as `/readyz` tells them."""
        answer = await self.get("/readyz", key=None, headers={"Accept": "application/json"})
        return {one["code"] for one in answer.json()["reasons"]}

    async def metric(self, name: str) -> int:
        return int((await self.metrics())[name])

    async def metrics(self) -> dict[str, float]:
        """All that a scrape shows, by name and labels, without what all names begin with."""
        text = (await self.get("/metrics", key=None)).body.decode()
        rows = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] not in ("#", ""))
        return {name.removeprefix("audit_gateway_"): float(rows[name]) for name in rows}

    async def streams_become(self, count: int, seconds: float = 3.0) -> None:
        watch = Stopwatch()
        while (open_now := await self.streams()) != count:
            assert watch.elapsed < patience(seconds), f"{open_now} streams are open, not {count}"
            await asyncio.sleep(0.01)

    async def connect(
        self, receive_buffer: int | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare TCP connection; with a bound, it takes in little more than that unread."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, (self.host, self.port))
        reader, writer = await asyncio.open_connection(
            sock=sock, limit=receive_buffer or 1 << 16, **self.tls_options()
        )
        self._connections.append(writer)
        return reader, writer

    def tls_options(self) -> dict[str, Any]:
        """Options of bare connections to a gateway that speaks TLS."""
        if not self.url.startswith("https:"):
            return {}
        # Not at the top: it takes long to load.
        from tests.support.certificates import client_context

        return {"ssl": client_context(), "server_hostname": self.host}

    def disconnect(self) -> None:
        """Close all bare connections."""
        for writer in self._connections:
            writer.close()

    async def exchange(self, request: bytes) -> bytes:
        """Send bytes on a connection of their own; everything that comes back until its end."""
        reader, writer = await self.connect()
        try:
            writer.write(request)
            async with asyncio.timeout(patience()):
                return await reader.read()
        finally:
            writer.close()


def event(**members: Any) -> Event:
    """An event; `category` is `auth` unless given."""
    return {"category": "auth", "action": "user.login", **members}


def key_id(key: str) -> str:
    return key[5:17]


def with_checksum(body: str) -> str:
    """A key of that text with a right checksum, as the format says it."""
    number, digits = crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return body + digits


def offset_of(cursor: str) -> int:
    return int(cursor.rpartition("-")[2])


def cursor_at(cursor: str, offset: int) -> str:
    """A cursor of the same log that stands elsewhere."""
    return f"{cursor.rpartition('-')[0]}-{offset:020d}"
