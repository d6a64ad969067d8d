"""Streams as clients behind a proxy have them: one message after the other, each in time."""

from __future__ import annotations

import asyncio
import base64
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol
from yarl import URL

from tests.support.machine_time import slowness
from tests.system.deploy.proxies import Proxy

TRANSPORTS = ("sse", "ndjson", "websocket")
# Less than the gateway takes to say something on its own, while it looks through its own records.
SECONDS = 4.0
_ACCEPT = {"sse": "text/event-stream", "ndjson": "application/x-ndjson"}


class Message(NamedTuple):
    """`kind` is `event`, or the type of a control message."""

    kind: str
    cursor: str
    content: dict[str, Any]


class Stream(ABC):
    """An open stream."""

    headers: Mapping[str, str]

    async def message(self) -> Message:
        """The next message. Raises `EOFError` at the end, `TimeoutError` if nothing comes."""
        async with asyncio.timeout(SECONDS * slowness()):
            return await self._message()

    async def event(self) -> Message:
        """The next event, which must be the next but bookmarks and the like."""
        while (message := await self.message()).kind != "event":
            assert message.kind in ("bookmark", "caught-up"), message
        return message

    @abstractmethod
    async def _message(self) -> Message: ...

    @abstractmethod
    def break_off(self) -> None:
        """End the connection at once, as when a client is killed."""


class LineStream(Stream):
    """SSE or NDJSON."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.headers = response.headers
        self._response = response
        self._content = response.content
        self._sse = response.content_type == "text/event-stream"

    async def _message(self) -> Message:
        if self._sse:
            return await self._block()
        message = orjson.loads(await self._line())
        return Message(message.get("type", "event"), message["cursor"], message)

    async def _block(self) -> Message:
        fields: dict[str, str] = {}
        while line := (await self._line()).decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
        if "data" not in fields:
            return Message("bookmark", fields["id"], {})
        content = orjson.loads(fields["data"])
        return Message(fields.get("event", "event"), content["cursor"], content)

    def break_off(self) -> None:
        connection = self._response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        self._response.close()

    async def _line(self) -> bytes:
        try:
            line = await self._content.readline()
        except aiohttp.ClientError as error:
            raise EOFError from error
        if not line.endswith(b"\n"):
            raise EOFError
        return line


class WebSocketStream(Stream):
    """A WebSocket that speaks `audit.v1`; `connection` is the library's."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def _message(self) -> Message:
        try:
            message = orjson.loads(await self.connection.recv())
        except ConnectionClosed as error:
            if error.rcvd is None:
                raise EOFError from error
            content = {"code": error.rcvd.code, "reason": error.rcvd.reason}
            return Message("end", "", content)
        content = message.get("event", message)
        return Message(message["type"], content["cursor"], content)

    def break_off(self) -> None:
        self.connection.transport.abort()


class Client:
    """Talks to a gateway through a proxy, from an address of the loopback network."""

    def __init__(
        self, proxy: Proxy, key: str, address: str, session: aiohttp.ClientSession
    ) -> None:
        self.proxy = proxy
        self.key = key
        self._address = address
        self._session = session
        self._streams: list[Stream] = []

    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the answer."""
        sent = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        async with (
            asyncio.timeout(SECONDS * slowness()),
            self._session.request(
                method, self.proxy.url + path, headers=sent, **options
            ) as response,
        ):
            return response.status, response.headers, await response.read()

    async def stream(
        self, transport: str, *, headers: Mapping[str, str] | None = None, **params: str
    ) -> Stream:
        """Open a stream, which must be let in."""
        url = URL(self.proxy.url) / "v1" / "stream" % params
        stream: Stream
        async with asyncio.timeout(SECONDS * slowness()):
            if transport == "websocket":
                stream = WebSocketStream(
                    await connect(
                        str(url.with_scheme("wss")), ssl=self.proxy.context, proxy=None,
                        ping_interval=None, local_addr=(self._address, 0),
                        subprotocols=[_bearer(self.key), Subprotocol("audit.v1")],
                        additional_headers=headers,
                    )
                )  # fmt: skip
            else:
                sent = {
                    "Accept": _ACCEPT[transport],
                    "Authorization": f"Bearer {self.key}",
                    **(headers or {}),
                }
                response = await self._session.get(url, headers=sent)
                assert response.status == 200, await response.text()
                stream = LineStream(response)
        self._streams.append(stream)
        return stream

    def break_off(self) -> None:
        """End all streams, as when a client is killed."""
        for stream in self._streams:
            stream.break_off()
        self._streams.clear()


@asynccontextmanager
async def client_of(proxy: Proxy, key: str, address: str = "127.0.0.1") -> AsyncIterator[Client]:
    """A client with this key that connects from `address`."""
    connector = aiohttp.TCPConnector(ssl=proxy.context, local_addr=(address, 0), limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        client = Client(proxy, key, address, session)
        try:
            yield client
        finally:
            client.break_off()


async def numbers(stream: Stream, count: int) -> list[int]:
    """What the next events have in `data.n`."""
    return [(await stream.event()).content["data"]["n"] for _ in range(count)]


def _bearer(key: str) -> Subprotocol:
    encoded = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
    return Subprotocol(f"base64url.bearer.authorization.audit.{encoded}")
