"""Wires of other formats than the native one. Framing and control messages are those of the native
wires; cursors stand beside the events, as other formats have them in places of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from gateway.cursor import IN_JSON
from gateway.formats.format import Format
from gateway.wire.framing import Wire
from gateway.wire.http_body import NDJSON, NDJSON_PLAIN, SSE, SSE_PLAIN, Ndjson, Sse
from gateway.wire.websocket_writer import (
    BATCH_BYTES,
    PLAIN,
    SUBPROTOCOLS,
    TEXT,
    AuditV1,
    AuditV1Batch,
    AuditV1Lines,
    PlainWebSocket,
    frame,
)

# One CloudEvent in JSON per frame.
CLOUDEVENTS = "cloudevents.json"


class Formatted(Wire):
    """Wire of one format."""

    format: Format

    def text(self, text: bytes) -> bytes:
        return self.lines(text.split(b"\n"))

    def lines(self, lines: Sequence[bytes]) -> bytes:
        encode = self.format.encode
        return self.framed([line[IN_JSON] for line in lines], [encode(line) for line in lines])

    def framed(self, cursors: Sequence[bytes], encoded: Sequence[bytes]) -> bytes:
        """Events that are encoded already, in order, with their cursors; at least one."""
        raise NotImplementedError


class FormattedSse(Formatted, Sse):
    """`id:` is the cursor, `data:` the event in its format."""

    def __init__(self, format: Format, *, chunked: bool) -> None:
        Sse.__init__(self, chunked=chunked)
        self.format, self.name = format, f"{self.name}+{format.name}"

    def framed(self, cursors: Sequence[bytes], encoded: Sequence[bytes]) -> bytes:
        pairs = zip(cursors, encoded, strict=True)
        return self._out(b"".join([b"id: %b\ndata: %b\n\n" % pair for pair in pairs]))


class FormattedLines(Formatted, Ndjson):
    """One event per line."""

    def __init__(self, format: Format, *, chunked: bool) -> None:
        Ndjson.__init__(self, chunked=chunked)
        self.format, self.name = format, f"{self.name}+{format.name}"
        if not format.json:
            self.content_type = "text/plain; charset=utf-8"

    def framed(self, cursors: Sequence[bytes], encoded: Sequence[bytes]) -> bytes:
        return self._out(b"\n".join([*encoded, b""]))


class FormattedWebSocket(Formatted, PlainWebSocket):
    """One text frame is one event."""

    def __init__(self, format: Format, subprotocol: str | None = None) -> None:
        self.format, self.name = format, f"{self.name}+{format.name}"
        self.subprotocol = subprotocol
        if subprotocol is not None:
            self.name = subprotocol

    def framed(self, cursors: Sequence[bytes], encoded: Sequence[bytes]) -> bytes:
        return b"".join([frame(TEXT, one) for one in encoded])


class FormattedAuditV1(Formatted, AuditV1):
    """`{"type":"event","cursor":"..","event":..}`; an event in a format of text is a string."""

    def __init__(self, format: Format) -> None:
        self.format, self.name = format, f"{self.name}+{format.name}"

    def framed(self, cursors: Sequence[bytes], encoded: Sequence[bytes]) -> bytes:
        pairs = zip(cursors, as_json(self.format, encoded), strict=True)
        head = b'{"type":"event","cursor":"%b","event":%b}'
        return b"".join([frame(TEXT, head % pair) for pair in pairs])


class FormattedAuditV1Batch(Formatted, AuditV1Batch):
    """`{"type":"events","cursor":"..","events":[..]}`, with the cursor of the last event."""

    def __init__(self, format: Format) -> None:
        self.format, self.name = format, f"{self.name}+{format.name}"

    def framed(self, cursors: Sequence[bytes], encoded: Sequence[bytes]) -> bytes:
        frames = []
        batch: list[bytes] = []
        size, last = 0, b""
        for cursor, one in zip(cursors, as_json(self.format, encoded), strict=True):
            if batch and size + len(one) > BATCH_BYTES:
                frames.append(_batch(last, batch))
                batch, size = [], 0
            batch.append(one)
            size += len(one) + 1
            last = cursor
        frames.append(_batch(last, batch))
        return b"".join(frames)


class FormattedAuditV1Lines(Formatted, AuditV1Lines):
    """A frame of lines of `{"cursor":"..","event":..}`."""

    def __init__(self, format: Format) -> None:
        self.format, self.name = format, f"{self.name}+{format.name}"

    def framed(self, cursors: Sequence[bytes], encoded: Sequence[bytes]) -> bytes:
        pairs = zip(cursors, as_json(self.format, encoded), strict=True)
        return AuditV1Lines.lines(self, [b'{"cursor":"%b","event":%b}' % pair for pair in pairs])


def _batch(cursor: bytes, batch: list[bytes]) -> bytes:
    whole = b",".join(batch)
    return frame(TEXT, b'{"type":"events","cursor":"%b","events":[%b]}' % (cursor, whole))


def as_json(format: Format, encoded: Sequence[bytes]) -> Sequence[bytes]:
    """Events as values in JSON: those in a format of text are strings."""
    return encoded if format.json else [orjson.dumps(one.decode()) for one in encoded]


class Wires:
    """Wires of one process by format and framing, one object of each. `native` has none."""

    def __init__(self, formats: Mapping[str, Format]) -> None:
        self.formats = formats
        self._of_consumers: dict[PlainWebSocket, PlainWebSocket] = {}
        self._sse: dict[tuple[str, bool], Sse] = {
            ("native", True): SSE,
            ("native", False): SSE_PLAIN,
        }
        self._lines: dict[tuple[str, bool], Ndjson] = {
            ("native", True): NDJSON, ("native", False): NDJSON_PLAIN,
        }  # fmt: skip
        self._websockets: dict[tuple[str, str | None], PlainWebSocket] = {
            ("native", None): PLAIN,
            **{("native", name): wire for name, wire in SUBPROTOCOLS.items()},
        }
        for name, format in formats.items():
            if name == "native":
                continue
            for chunked in (True, False):
                self._sse[name, chunked] = FormattedSse(format, chunked=chunked)
                self._lines[name, chunked] = FormattedLines(format, chunked=chunked)
            self._websockets[name, None] = FormattedWebSocket(format)
            self._websockets[name, AuditV1.subprotocol] = FormattedAuditV1(format)
            self._websockets[name, AuditV1Batch.subprotocol] = FormattedAuditV1Batch(format)
            self._websockets[name, AuditV1Lines.subprotocol] = FormattedAuditV1Lines(format)
        self._websockets["cloudevents", CLOUDEVENTS] = FormattedWebSocket(
            formats["cloudevents"], CLOUDEVENTS
        )

    def sse(self, format: str, *, chunked: bool) -> Sse:
        return self._sse[format, chunked]

    def lines(self, format: str, *, chunked: bool) -> Ndjson:
        return self._lines[format, chunked]

    def for_consumer(self, wire: PlainWebSocket) -> PlainWebSocket:
        """The wire of a durable consumer in place of one that has no messages but events."""
        known = self._of_consumers.get(wire)
        if known is None:
            known = self._of_consumers[wire] = wire.for_consumer()
        return known

    def websocket(self, format: str, subprotocol: str | None) -> PlainWebSocket | None:
        """None: the subprotocol is one of another format."""
        return self._websockets.get((format, subprotocol))
