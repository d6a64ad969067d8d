"""Common parts of stream framings: ends, control messages, and the `Wire` protocol.

A wire turns events and control messages into bytes, independent of the subscriber: one encoding
serves a whole group. Wires hold no state, so there is one object of each.

Control messages are objects with a `type`: `bookmark`, `caught-up`, `gap`, `notice`, `end`. An
empty result means that the wire cannot express the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import orjson

from gateway.event import Event
from gateway.formats.format import Format


class End(msgspec.Struct, frozen=True):
    """End of a stream: documented close code, stable reason, whether to reconnect."""

    code: int
    reason: str
    reconnect: bool

    def message(self, cursor: str) -> dict[str, Any]:
        """Members of an `end` message."""
        return {
            "code": self.code,
            "reason": self.reason,
            "cursor": cursor,
            "reconnect": self.reconnect,
        }


# 1000, 1012 and 1013 are from RFC 6455 and its registry; 4000 to 4499 mean "reconnect after a
# pause", 4500 to 4999 "do not reconnect".
COMPLETE = End(1000, "complete", False)
CLIENT_CLOSED = End(1000, "client_closed", False)
GOING_AWAY = End(1001, "going_away", True)
RESTART = End(1012, "restart", True)
OVERLOAD = End(1013, "overload", True)
THROTTLED = End(4001, "throttled", True)
QUOTA_EXHAUSTED = End(4001, "quota_exhausted", True)
PROTOCOL_ERROR = End(1002, "protocol_error", False)
INVALID_TEXT = End(1007, "invalid_text", False)
MESSAGE_TOO_BIG = End(1009, "message_too_big", False)
LIFETIME_REACHED = End(4002, "lifetime_reached", True)
OVERTAKEN = End(4003, "overtaken_by_retention", True)
EVENT_FAILED = End(4004, "event_failed", True)
ENDED_BY_OPERATOR = End(4005, "ended_by_operator", True)
ACK_TIMEOUT = End(1013, "ack_timeout", True)
REWOUND = End(1012, "consumer_rewound", True)
KEY_REVOKED = End(4501, "key_revoked", False)
KEY_EXPIRED = End(4502, "key_expired", False)
NOT_GRANTED = End(4503, "grants_changed", False)
KEY_SUSPENDED = End(4504, "key_suspended", False)
TAKEN_OVER = End(4505, "consumer_taken_over", False)
VIEWER_TAKEN_OVER = End(4505, "viewer_taken_over", False)
CONSUMER_DELETED = End(4505, "consumer_deleted", False)
SESSION_ENDED = End(4506, "session_ended", False)
ENDS = (
    COMPLETE, CLIENT_CLOSED, GOING_AWAY, PROTOCOL_ERROR, INVALID_TEXT, MESSAGE_TOO_BIG, RESTART,
    OVERLOAD, THROTTLED, QUOTA_EXHAUSTED, LIFETIME_REACHED, OVERTAKEN, EVENT_FAILED,
    ENDED_BY_OPERATOR, KEY_REVOKED, KEY_EXPIRED, NOT_GRANTED, KEY_SUSPENDED, ACK_TIMEOUT, REWOUND,
    TAKEN_OVER, CONSUMER_DELETED, SESSION_ENDED, VIEWER_TAKEN_OVER,
)  # fmt: skip
# In place of reason and code where it was the peer who left.
CLIENT_GONE = "client_gone"
END_CODES = (*dict.fromkeys(str(end.code) for end in ENDS), CLIENT_GONE)
TRANSPORTS = ("sse", "ndjson", "csv", "websocket", "audit.v1", "audit.v1.batch", "destination")


class Wire(Protocol):
    """Framing of a stream: messages in, bytes out. `cursor` arguments are cursors as text.

    `transport` is one of `TRANSPORTS`; each may have several framings, with a `name` each.
    """

    name: str
    transport: str
    # Of wires that are `gateway.wire.formatted.Formatted`; None: native.
    format: Format | None = None
    # Whether what comes means something under one view of a key only: a stream of it ends with that
    # view.
    fixed_view: bool = False

    def opening(self, cursor: str, retry_ms: int, gap: dict[str, Any] | None = None) -> bytes:
        """Bytes sent once the position is fixed; the first message is the `gap`, if any."""

    def text(self, text: bytes) -> bytes:
        """Events as lines of native JSON, in order; at least one, without a final line break."""
        return self.lines(text.split(b"\n"))

    def lines(self, lines: Sequence[bytes]) -> bytes:
        """Events as native JSON each, in order; at least one."""

    def events(self, events: Sequence[Event]) -> bytes:
        """Events in order; at least one."""
        return self.lines([event.json for event in events])

    def control(self, kind: str, members: dict[str, Any]) -> bytes:
        """A control message."""

    def heartbeat(self, cursor: str) -> bytes:
        """Message that keeps a quiet connection open and moves the client's cursor."""

    def ping(self) -> bytes:
        """Ping frame; empty if the protocol has none."""

    def end(self, end: End, cursor: str) -> bytes:
        """Last bytes of the stream."""


def control_json(kind: str, members: dict[str, Any]) -> bytes:
    """A control message as JSON on one line."""
    return orjson.dumps({"type": kind, **members})
