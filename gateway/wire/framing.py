"""Parts that all framings of streams share: ends, control messages, and the protocol of a framing.

A wire turns events and control messages into the bytes that go out, without
knowing to whom: one encoding serves every subscriber of a group. Wires hold no
state, so there is one object of each.

Control messages are objects with a `type`: `bookmark`, `caught-up`, `gap`,
`notice`, `end`. An empty result means that the wire has no way to say it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import orjson

from gateway.event import Event


class End(msgspec.Struct, frozen=True):
    """How a stream ends: the documented code, a stable reason, whether to come back."""

    code: int
    reason: str
    reconnect: bool

    def message(self, cursor: str) -> dict[str, Any]:
        """The members of an `end` message."""
        return {
            "code": self.code,
            "reason": self.reason,
            "cursor": cursor,
            "reconnect": self.reconnect,
        }


# 1000 and 1012 to 1013 are RFC 6455's and its registry's; 4000 to 4499 mean "come back
# after a pause", 4500 to 4999 "do not".
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
KEY_REVOKED = End(4501, "key_revoked", False)
KEY_EXPIRED = End(4502, "key_expired", False)
NOT_GRANTED = End(4503, "grants_changed", False)
KEY_SUSPENDED = End(4504, "key_suspended", False)
ENDS = (
    COMPLETE, CLIENT_CLOSED, GOING_AWAY, PROTOCOL_ERROR, INVALID_TEXT, MESSAGE_TOO_BIG, RESTART,
    OVERLOAD, THROTTLED, QUOTA_EXHAUSTED, LIFETIME_REACHED, OVERTAKEN, EVENT_FAILED, KEY_REVOKED,
    KEY_EXPIRED, NOT_GRANTED, KEY_SUSPENDED,
)  # fmt: skip


class Wire(Protocol):
    """Framing of a stream: messages in, bytes out. `cursor` arguments are cursors as text."""

    name: str

    def opening(self, cursor: str, retry_ms: int, gap: dict[str, Any] | None = None) -> bytes:
        """Bytes sent once the position is fixed; of messages, the `gap` first if there is one."""

    def text(self, text: bytes) -> bytes:
        """Events as lines of native JSON, in order; at least one, and no break behind the last."""
        return self.lines(text.split(b"\n"))

    def lines(self, lines: Sequence[bytes]) -> bytes:
        """Events as their native JSON, in order; at least one."""

    def events(self, events: Sequence[Event]) -> bytes:
        """The events, in order; at least one."""
        return self.lines([event.json for event in events])

    def control(self, kind: str, members: dict[str, Any]) -> bytes:
        """A control message."""

    def heartbeat(self, cursor: str) -> bytes:
        """Message that keeps a quiet connection open and moves the client's cursor."""

    def ping(self) -> bytes:
        """Ping frame, where the protocol has one; empty otherwise."""

    def end(self, end: End, cursor: str) -> bytes:
        """The last bytes of the stream."""


def control_json(kind: str, members: dict[str, Any]) -> bytes:
    """A control message as JSON on one line."""
    return orjson.dumps({"type": kind, **members})
