"""What arrives on a stream, decoded as it comes: chunks, lines and blocks, frames."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Protocol

import orjson

# `event`, or the type of a control message, and its members; of a ping, its bytes.
Message = tuple[str, Any]
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
# Close codes from here on mean that coming back is no use.
_TERMINAL = 4500


class Decoder(Protocol):
    """Keeps what is not whole yet."""

    def feed(self, data: bytes) -> Iterator[Any]: ...


class Chunked:
    """The payload of a chunked body (RFC 9112, section 7.1)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        while (mark := self._buffer.find(b"\r\n")) >= 0:
            size = int(self._buffer[:mark], 16)
            end = mark + 2 + size
            if len(self._buffer) < end + 2:
                return
            assert self._buffer[end : end + 2] == b"\r\n"
            yield bytes(self._buffer[mark + 2 : end])
            del self._buffer[: end + 2]


class Lines:
    """Messages of an NDJSON body, or of the blocks of an SSE one."""

    def __init__(self, *, sse: bool) -> None:
        self._mark = b"\n\n" if sse else b"\n"
        self._decode = _block if sse else _line
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Message]:
        *whole, self._buffer = (self._buffer + data).split(self._mark)
        yield from map(self._decode, whole)


class Frames:
    """Messages of a plain WebSocket (RFC 6455): events, pings, and the close frame as an end."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        self._buffer += data
        while (frame := self._frame()) is not None:
            opcode, payload = frame
            if opcode == _TEXT:
                yield _line(payload)
            elif opcode == _PING:
                yield "ping", payload
            else:
                assert opcode == _CLOSE, opcode
                code = int.from_bytes(payload[:2], "big")
                yield "end", {"code": code, "reconnect": code < _TERMINAL}

    def _frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        assert buffer[0] & 0xF0 == 0x80, "a server sends whole frames without extensions"
        size, start = buffer[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + size:
            return None
        frame = buffer[0] & 0x0F, bytes(buffer[start : start + size])
        del buffer[: start + size]
        return frame


def pong(payload: bytes) -> bytes:
    """A client's answer to a ping, masked."""
    assert len(payload) < 126
    mask = os.urandom(4)
    hidden = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return bytes((0x80 | _PONG, 0x80 | len(payload))) + mask + hidden


def _line(raw: bytes) -> Message:
    content = orjson.loads(raw)
    return content.get("type", "event"), content


def _block(raw: bytes) -> Message:
    fields: dict[bytes, bytes] = {}
    for line in raw.split(b"\n"):
        name, _, value = line.partition(b":")
        fields[name] = value.removeprefix(b" ")
    if b"data" not in fields:
        return "bookmark", {"cursor": fields[b"id"].decode()}
    content = orjson.loads(fields[b"data"])
    if b"event" not in fields:
        assert content["cursor"].encode() == fields[b"id"]
        return "event", content
    return fields[b"event"].decode(), content
