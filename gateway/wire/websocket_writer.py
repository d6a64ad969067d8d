"""Frames of WebSocket servers (RFC 6455), in several dialects.

Without a subprotocol each text frame is one event, without control messages; the subprotocols
`audit.v1`, `audit.v1.batch` and `audit.v1.lines` have control messages, too. No extension is
negotiated: compression would cost each connection a window, and joining frames in one write saves
more.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from copy import copy
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Self

import orjson

from gateway.wire.framing import End, Wire, control_json

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
PING_FRAME = b"\x89\x00"
# Common clients refuse frames above 1 MiB; one event may have 256 KiB.
BATCH_BYTES = 256 * 1024


def frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked, final frame, as servers send them (RFC 6455, section 5.2)."""
    return _head(opcode, len(payload)) + payload


@lru_cache(4096)
def _head(opcode: int, size: int) -> bytes:
    if size < 126:
        return bytes((0x80 | opcode, size))
    if size < 1 << 16:
        return struct.pack("!BBH", 0x80 | opcode, 126, size)
    return struct.pack("!BBQ", 0x80 | opcode, 127, size)


@lru_cache(4096)
def _text_head(size: int) -> bytes:
    return _head(TEXT, size)


def ping_frame(payload: bytes) -> bytes:
    """Ping whose pong has the same payload."""
    return frame(PING, payload)


def close_frame(code: int, reason: bytes = b"") -> bytes:
    """Close frame; the reason is cut to 123 bytes, between characters."""
    fitting = reason[:123].decode(errors="ignore").encode()
    return frame(CLOSE, struct.pack("!H", code) + fitting)


def frame_end(frames: bytes, at: int) -> int:
    """Index after the frame that holds the byte before `at`, in frames of a server.

    0 for `at` 0; the length of `frames` if they are not frames.
    """
    end = 0
    while end < at:
        if len(frames) < end + 2 or frames[end] & 0x70:
            return len(frames)
        size, head = frames[end + 1], 2
        if size >= 126:
            width = 2 if size == 126 else 8
            head += width
            size = int.from_bytes(frames[end + 2 : end + head], "big")
        end += head + size
    return min(end, len(frames))


_CONSUMER_CODES = MappingProxyType({
    4001: 1013,  # throttled, quota_exhausted
    4002: 1012,  # lifetime_reached
    4003: 1012,  # overtaken_by_retention
    4004: 1011,  # event_failed
    4005: 1013,  # ended_by_operator
})  # fmt: skip


class PlainWebSocket(Wire):
    """One text frame is one event."""

    name = transport = "websocket"
    subprotocol: str | None = None
    # Close codes in place of those of ends; then the reason names the other.
    codes: Mapping[int, int] | None = None

    def opening(self, cursor: str, retry_ms: int, gap: dict[str, Any] | None = None) -> bytes:
        return b"" if gap is None else self.control("gap", gap)

    def lines(self, lines: Sequence[bytes]) -> bytes:
        if len(lines) == 1:
            return frame(TEXT, lines[0])
        # Heads and payloads are joined in one go, as each event would be copied once more else.
        parts = [b""] * (2 * len(lines))
        parts[::2] = map(_text_head, map(len, lines))
        parts[1::2] = lines
        return b"".join(parts)

    def control(self, kind: str, members: dict[str, Any]) -> bytes:
        # Only a client that asked for `on_gap=skip` ever gets a gap.
        return frame(TEXT, control_json(kind, members)) if kind == "gap" else b""

    def heartbeat(self, cursor: str) -> bytes:
        return b""

    def ping(self) -> bytes:
        return PING_FRAME

    def end(self, end: End, cursor: str) -> bytes:
        if self.codes is None:
            return close_frame(end.code, orjson.dumps({"reason": end.reason, "cursor": cursor}))
        reason = orjson.dumps({"reason": end.reason, "code": end.code, "cursor": cursor})
        return close_frame(self.codes.get(end.code, end.code), reason)

    def for_consumer(self) -> Self:
        """The wire of a durable consumer, for programs that reconnect by the close code alone: ends
        after which to come back have codes of the registry of RFC 6455."""
        wire = copy(self)
        wire.codes = _CONSUMER_CODES
        return wire


class AuditV1(PlainWebSocket):
    """`{"type":"event","event":{..}}`, and control messages with their `type`."""

    name = transport = subprotocol = "audit.v1"

    def lines(self, lines: Sequence[bytes]) -> bytes:
        return b"".join([frame(TEXT, b'{"type":"event","event":%b}' % line) for line in lines])

    def control(self, kind: str, members: dict[str, Any]) -> bytes:
        return frame(TEXT, control_json(kind, members))

    def opening(self, cursor: str, retry_ms: int, gap: dict[str, Any] | None = None) -> bytes:
        # Either tells where the stream begins.
        return self.heartbeat(cursor) if gap is None else self.control("gap", gap)

    def heartbeat(self, cursor: str) -> bytes:
        return self.control("bookmark", {"cursor": cursor})

    def end(self, end: End, cursor: str) -> bytes:
        return self.control("end", end.message(cursor)) + super().end(end, cursor)


class AuditV1Batch(AuditV1):
    """`AuditV1` with the events of a flush as one `{"type":"events","events":[..]}`."""

    name = transport = subprotocol = "audit.v1.batch"

    def lines(self, lines: Sequence[bytes]) -> bytes:
        frames = []
        batch: list[bytes] = []
        size = 0
        for line in lines:
            if batch and size + len(line) > BATCH_BYTES:
                frames.append(_batch_frame(batch))
                batch, size = [], 0
            batch.append(line)
            size += len(line) + 1
        frames.append(_batch_frame(batch))
        return b"".join(frames)


class AuditV1Lines(AuditV1):
    """Events of a flush as lines, an event each, in one frame; control messages as with `AuditV1`.
    For readers that keep the text of very many events and decode few."""

    name = subprotocol = "audit.v1.lines"

    def lines(self, lines: Sequence[bytes]) -> bytes:
        frames = []
        part: list[bytes] = []
        size = 0
        for line in lines:
            if part and size + len(line) > BATCH_BYTES:
                frames.append(frame(TEXT, b"\n".join(part)))
                part, size = [], 0
            part.append(line)
            size += len(line) + 1
        frames.append(frame(TEXT, b"\n".join(part)))
        return b"".join(frames)


def _batch_frame(batch: list[bytes]) -> bytes:
    return frame(TEXT, b'{"type":"events","events":[%b]}' % b",".join(batch))


PLAIN = PlainWebSocket()
SUBPROTOCOLS: dict[str, PlainWebSocket] = {
    wire.subprotocol: wire
    for wire in (AuditV1(), AuditV1Batch(), AuditV1Lines())
    if wire.subprotocol
}
