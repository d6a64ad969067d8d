"""Server-Sent Events (WHATWG HTML, section 9.2) and NDJSON as HTTP response bodies.

Each flush is one chunk (RFC 9112, section 7.1), or bare bytes for HTTP/1.0 clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from gateway.cursor import IN_JSON
from gateway.wire.framing import End, Wire, control_json

LAST_CHUNK = b"0\r\n\r\n"


def chunk(payload: bytes) -> bytes:
    """One chunk of the chunked transfer coding."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


class Sse(Wire):
    """`id:` is the cursor, `data:` the event; ordinary events carry no `event:` field."""

    content_type = "text/event-stream; charset=utf-8"
    transport = "sse"

    def __init__(self, *, chunked: bool) -> None:
        self.name = "sse" if chunked else "sse-1.0"
        self._chunked = chunked

    def opening(self, cursor: str, retry_ms: int, gap: dict[str, Any] | None = None) -> bytes:
        # With the id, a reconnect before the first event resumes here instead of at "now".
        opened = self._out(f"retry: {retry_ms}\n: stream open\nid: {cursor}\n\n".encode())
        return opened if gap is None else opened + self.control("gap", gap)

    def lines(self, lines: Sequence[bytes]) -> bytes:
        return self._out(
            b"".join([b"id: %b\ndata: %b\n\n" % (line[IN_JSON], line) for line in lines])
        )

    def control(self, kind: str, members: dict[str, Any]) -> bytes:
        if kind == "bookmark":
            return self.heartbeat(members["cursor"])
        return self._out(self._named(kind, members))

    def heartbeat(self, cursor: str) -> bytes:
        return self._out(f"id: {cursor}\n\n".encode())

    def ping(self) -> bytes:
        return b""

    def end(self, end: End, cursor: str) -> bytes:
        last = self._out(self._named("end", end.message(cursor)))
        return last + LAST_CHUNK if self._chunked else last

    def _named(self, kind: str, members: dict[str, Any]) -> bytes:
        position = f"id: {members['cursor']}\n".encode() if "cursor" in members else b""
        return b"%bevent: %b\ndata: %b\n\n" % (position, kind.encode(), orjson.dumps(members))

    def _out(self, payload: bytes) -> bytes:
        return chunk(payload) if self._chunked else payload


class Ndjson(Wire):
    """One event per line; the few control messages are lines with a `type` member."""

    content_type = "application/x-ndjson"
    transport = "ndjson"
    _SAID = ("gap", "notice", "bookmark")

    def __init__(self, *, chunked: bool) -> None:
        self.name = "ndjson" if chunked else "ndjson-1.0"
        self._chunked = chunked

    def opening(self, cursor: str, retry_ms: int, gap: dict[str, Any] | None = None) -> bytes:
        return b"" if gap is None else self.control("gap", gap)

    def lines(self, lines: Sequence[bytes]) -> bytes:
        return self._out(b"\n".join([*lines, b""]))

    def text(self, text: bytes) -> bytes:
        if not self._chunked:
            return text + b"\n"
        # Joined: formatting would copy it twice.
        return b"".join([b"%x\r\n" % (len(text) + 1), text, b"\n\r\n"])

    def control(self, kind: str, members: dict[str, Any]) -> bytes:
        if kind not in self._SAID:
            return b""
        return self._out(control_json(kind, members) + b"\n")

    def heartbeat(self, cursor: str) -> bytes:
        return self.control("bookmark", {"cursor": cursor})

    def ping(self) -> bytes:
        return b""

    def end(self, end: End, cursor: str) -> bytes:
        last = self._out(control_json("end", end.message(cursor)) + b"\n")
        return last + LAST_CHUNK if self._chunked else last

    def _out(self, payload: bytes) -> bytes:
        return chunk(payload) if self._chunked else payload


SSE = Sse(chunked=True)
SSE_PLAIN = Sse(chunked=False)
NDJSON = Ndjson(chunked=True)
NDJSON_PLAIN = Ndjson(chunked=False)
