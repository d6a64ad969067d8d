"""Streams read from bare sockets, by decoders of their own: what a client really gets."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson
from gateway_client import NDJSON, Answer, Event, GatewayClient

from tests.support.machine_time import patience

ACCEPT = {"sse": "text/event-stream", "ndjson": NDJSON}
_DIALECTS = ("audit.v1", "audit.v1.batch", "audit.v1.lines")
SUBPROTOCOLS = {"websocket": None, **{name: name for name in _DIALECTS}}
TRANSPORTS = (*ACCEPT, *SUBPROTOCOLS)
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Refused(Exception):
    """The gateway answered a stream request with something else than a stream."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status}: {answer.body[:500]!r}")
        self.answer = answer


@dataclass
class Said:
    """One message: `event`, `bookmark`, `caught-up`, `gap`, `end`, `opening`, `ping`, `pong`."""

    kind: str
    content: Any
    raw: bytes


class Stream(ABC):
    """An open stream. `events` and `others` keep all that was read from it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = b""
        self._decoded: list[Said] = []
        self.answer = answer
        self.events: list[Event] = []
        self.others: list[Said] = []
        self.cursor = ""

    async def say(self) -> Said | None:
        """The next message; None when the connection has ended."""
        while not self._decoded:
            decoded = await self._decode()
            if decoded is None:
                return None
            self._decoded = decoded
        said = self._decoded.pop(0)
        if said.kind == "event":
            self.events.append(said.content)
            self.cursor = said.content["cursor"]
        else:
            self.others.append(said)
            if isinstance(said.content, dict):
                self.cursor = said.content.get("cursor") or self.cursor
        return said

    async def next(self, kind: str, seconds: float = 10.0) -> Said:
        """The next message of that kind; others are passed over, but no end."""
        async with asyncio.timeout(patience(seconds)):
            while True:
                said = await self.say()
                assert said is not None, f"the connection ended before a message {kind!r}"
                if said.kind == kind:
                    return said
                assert said.kind != "end", f"{said.content} before a message {kind!r}"

    async def event(self, seconds: float = 10.0) -> Event:
        content: Event = (await self.next("event", seconds)).content
        return content

    async def take(self, count: int, seconds: float = 10.0) -> list[Event]:
        """That many further events."""
        async with asyncio.timeout(patience(seconds)):
            return [await self.event() for _ in range(count)]

    async def to_end(self, seconds: float = 10.0) -> dict[str, Any]:
        """Read up to the end of the connection; the members of the `end` message."""
        end: dict[str, Any] | None = None
        async with asyncio.timeout(patience(seconds)):
            while (said := await self.say()) is not None:
                assert end is None or said.kind in ("end", "close"), f"{said} after the end"
                if said.kind == "end":
                    end = said.content
        assert end is not None, "the connection ended without an end message"
        return end

    def close(self) -> None:
        """FIN."""
        self._writer.close()

    def close_half(self) -> None:
        """FIN, and ready to read on."""
        self._writer.write_eof()

    def reset(self) -> None:
        """RST."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait while the gateway does not take what was written."""
        await self._writer.drain()

    async def _more(self) -> bool:
        try:
            data = await self._reader.read(1 << 16)
        except ConnectionError:
            data = b""
        self._buffer += data
        return bool(data)

    async def _until(self, mark: bytes) -> bytes | None:
        """What comes before the mark, which is taken off too."""
        while mark not in self._buffer:
            if not await self._more():
                assert not self._buffer, f"ended within a message: {self._buffer[:200]!r}"
                return None
        found, self._buffer = self._buffer.split(mark, 1)
        return found

    async def _exactly(self, count: int) -> bytes | None:
        while len(self._buffer) < count:
            if not await self._more():
                return None
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    @abstractmethod
    async def _decode(self) -> list[Said] | None: ...


class HttpStream(Stream):
    """SSE or NDJSON; `chunks` is the size of each chunk, in order."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer
    ) -> None:
        super().__init__(reader, writer, answer)
        self.chunked = answer.headers.get("transfer-encoding") == "chunked"
        self.ended_properly = not self.chunked
        self._payload = b""
        self._mark = b"\n\n" if "event-stream" in answer.headers["content-type"] else b"\n"

    async def _piece(self) -> bytes | None:
        """Some payload bytes; None at the end."""
        if not self.chunked:
            if not self._buffer and not await self._more():
                return None
            piece, self._buffer = self._buffer, b""
            return piece
        size = await self._until(b"\r\n")
        if size is None:
            return None
        chunk = await self._exactly(int(size, 16) + 2)
        if chunk is None:
            return None
        assert chunk.endswith(b"\r\n")
        if size == b"0":
            self.ended_properly = True
            assert not await self._more(), "bytes behind the last chunk"
            return None
        return chunk[:-2]

    async def _decode(self) -> list[Said] | None:
        while self._mark not in self._payload:
            piece = await self._piece()
            if piece is None:
                assert not self._payload, f"ended within a message: {self._payload[:200]!r}"
                return None
            self._payload += piece
        *whole, self._payload = self._payload.split(self._mark)
        decode = _sse_block if self._mark == b"\n\n" else _json_message
        return [decode(raw) for raw in whole]


class WebSocketStream(Stream):
    """A WebSocket; answers pings and the close frame as a browser does."""

    async def _decode(self) -> list[Said] | None:
        head = await self._exactly(2)
        if head is None:
            return None
        assert head[0] & 0xF0 == 0x80, "a server sends whole frames without extensions"
        assert not head[1] & 0x80, "a server does not mask"
        size, opcode = head[1] & 0x7F, head[0] & 0x0F
        if size >= 126:
            longer = await self._exactly(2 if size == 126 else 8)
            assert longer is not None
            size = int.from_bytes(longer, "big")
        payload = await self._exactly(size)
        if payload is None:
            return None
        if opcode == TEXT:
            first, *others = map(_json_message, payload.split(b"\n"))
            if others:
                assert {one.kind for one in (first, *others)} == {"event"}
                return [first, *others]
            said = first
            if said.kind == "events":
                return [Said("event", one, payload) for one in said.content["events"]]
            if said.kind == "event" and said.content.get("type") == "event":
                assert set(said.content) == {"type", "event"}
                said.content = said.content["event"]
            return [said]
        if opcode == PING:
            self.write(masked(PONG, payload))
            return [Said("ping", payload, payload)]
        if opcode == PONG:
            return [Said("pong", payload, payload)]
        assert opcode == CLOSE
        self.write(masked(CLOSE, payload[:2]))
        code = int.from_bytes(payload[:2], "big")
        reason = payload[2:].decode()
        if reason.startswith("{"):
            return [Said("end", {"code": code, **orjson.loads(reason)}, payload)]
        return [Said("close", {"code": code, "reason": reason}, payload)]


def _sse_block(raw: bytes) -> Said:
    """A block of a text/event-stream (WHATWG HTML, section 9.2.6), read strictly."""
    fields: dict[str, str] = {}
    comments = []
    for line in raw.decode().split("\n"):
        assert "\r" not in line
        name, _, value = line.partition(":")
        if name == "":
            comments.append(value)
            continue
        assert name not in fields, f"twice {name!r} in {raw!r}"
        fields[name] = value.removeprefix(" ")
    assert set(fields) <= {"id", "data", "event", "retry"}, raw
    if "data" not in fields:
        assert "event" not in fields
        if "retry" in fields:
            return Said("opening", {"cursor": fields["id"], **fields, "comments": comments}, raw)
        return Said("bookmark", {"cursor": fields["id"]}, raw)
    content = orjson.loads(fields["data"])
    if "cursor" in content:
        assert fields["id"] == content["cursor"]
    return Said(fields.get("event", "event"), content, raw)


def _json_message(raw: bytes) -> Said:
    """A line or a text frame: an event as it is, anything else with its `type`."""
    content = orjson.loads(raw)
    return Said(content.get("type", "event"), content, raw)


def masked(opcode: int, payload: bytes, *, first: int = 0x80) -> bytes:
    """A client's frame (RFC 6455, section 5.2); `first` holds FIN and reserved bits."""
    mask = os.urandom(4)
    size = len(payload)
    if size < 126:
        head = bytes((first | opcode, 0x80 | size))
    elif size < 1 << 16:
        head = struct.pack("!BBH", first | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first | opcode, 0x80 | 127, size)
    key = (mask * (size // 4 + 1))[:size]
    hidden = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return head + mask + hidden.to_bytes(size, "big")


async def open_stream(
    client: GatewayClient,
    transport: str,
    key: str | None = "",
    *,
    headers: Mapping[str, str] | None = None,
    receive_buffer: int | None = None,
    version: str = "1.1",
    behind: bytes = b"",
    **params: Any,
) -> Any:
    """Open a stream; `key` "" is the user's, `from_` is the parameter `from`.

    `behind` follows the request at once. Raises `Refused`.
    """
    sent = {"Host": f"{client.host}:{client.port}"}
    if key is not None:
        sent["Authorization"] = f"Bearer {key or client.user}"
    if transport in ACCEPT:
        sent["Accept"] = ACCEPT[transport]
    else:
        sent |= upgrade_headers()
        if SUBPROTOCOLS.get(transport, transport) is not None:
            sent["Sec-WebSocket-Protocol"] = transport
    sent |= headers or {}
    query = urlencode({name.removesuffix("_"): value for name, value in params.items()}, doseq=True)
    lines = [f"GET /v1/stream?{query} HTTP/{version}", *(f"{n}: {v}" for n, v in sent.items())]
    head = "\r\n".join([*lines, "", ""]).encode()
    return await open_with(client, head + behind, receive_buffer)


async def open_with(
    client: GatewayClient, request: bytes, receive_buffer: int | None = None
) -> Any:
    """Open a stream with the bytes of a request."""
    reader, writer = await client.connect(receive_buffer)
    try:
        writer.write(request)
        async with asyncio.timeout(patience()):
            head = await reader.readuntil(b"\r\n\r\n")
            first, *rest = head.decode("latin-1").split("\r\n")[:-2]
            status = int(first.split()[1])
            found = [line.partition(": ") for line in rest]
            names = {name.lower(): value for name, _, value in found}
            answer = Answer(status, names, b"")
            if status not in (200, 101):
                answer.body = await reader.readexactly(int(names["content-length"]))
                answer.headers = {name.title(): value for name, value in names.items()}
                raise Refused(answer)
    except BaseException:
        writer.close()
        raise
    kind = HttpStream if status == 200 else WebSocketStream
    return kind(reader, writer, answer)


def upgrade_headers() -> dict[str, str]:
    return {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }
