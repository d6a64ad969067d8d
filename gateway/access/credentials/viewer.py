"""Embedded viewers: what a page of somebody else shows of the log, in a frame.

A server that has a key makes a ticket of a viewer, `alpt_<claims>.<signature>`, which the frame
trades once for a token, `alpv_<claims>.<signature>`, that it holds in memory. Both have the same
claims, and signatures for purposes of their own, so that neither passes for the other nor for the
ticket of a stream.
"""

from __future__ import annotations

import secrets

import msgspec

from gateway.access.credentials.ticket import PREFIX as TICKET_PREFIX
from gateway.access.credentials.ticket import TICKET_SECONDS, signed, verified

PREFIX = "alpv_"
TOKEN_SECONDS = 15 * 60
# A token is sent in a header, and in base64url once more where a browser opens a WebSocket.
MAX_LENGTH = 3 * 1024
TEXT, EXPORT, LIVE = "text", "export", "live"
MAY = (TEXT, EXPORT, LIVE)
THEMES = ("plain", "slate", "sand", "contrast")
_TICKET_PURPOSE = b"audit-gateway viewer ticket"
_TOKEN_PURPOSE = b"audit-gateway viewer token"


class Viewer(msgspec.Struct, frozen=True, array_like=True):
    """Right to look at what `key_id` may pull of what `parameters` select.

    `id` names one ticket, or one token. `origin` is that of the page around it; `may` are of `MAY`;
    `since`: events recorded up to so many seconds ago at most, 0 for no bound. `expires_at` is in
    seconds since 1970.
    """

    id: str
    key_id: str
    parameters: tuple[tuple[str, str], ...]
    origin: str
    expires_at: float
    subject: str = ""
    may: tuple[str, ...] = ()
    since: int = 0
    columns: tuple[str, ...] = ()
    theme: str = THEMES[0]

    @property
    def session(self) -> str:
        """Session of the person who has made it: none, as keys make viewers."""
        return ""

    @property
    def lookback(self) -> int | None:
        """How far back it looks, in seconds; None for no bound of its own."""
        return self.since or None


_DECODER = msgspec.json.Decoder(Viewer)


def as_ticket(viewer: Viewer, pepper: bytes, now: float) -> tuple[Viewer, str]:
    """The viewer as a new ticket, and its text."""
    made = _renewed(viewer, now + TICKET_SECONDS)
    return made, signed(TICKET_PREFIX, msgspec.json.encode(made), pepper, _TICKET_PURPOSE)


def as_token(viewer: Viewer, pepper: bytes, now: float) -> tuple[Viewer, str]:
    """The viewer as a new token, and its text."""
    made = _renewed(viewer, now + TOKEN_SECONDS)
    return made, signed(PREFIX, msgspec.json.encode(made), pepper, _TOKEN_PURPOSE)


def read_viewer_ticket(text: str, pepper: bytes, now: float) -> Viewer | None:
    """Verify the text of a ticket; None if it is invalid, for a stream, or over."""
    return _read(TICKET_PREFIX, text, pepper, _TICKET_PURPOSE, now)


def read_viewer_token(text: str, pepper: bytes, now: float) -> Viewer | None:
    """Verify the text of a token; None if it is invalid or over."""
    return _read(PREFIX, text, pepper, _TOKEN_PURPOSE, now)


def _renewed(viewer: Viewer, expires_at: float) -> Viewer:
    return msgspec.structs.replace(viewer, id=secrets.token_hex(8), expires_at=expires_at)


def _read(prefix: str, text: str, pepper: bytes, purpose: bytes, now: float) -> Viewer | None:
    claims = verified(prefix, text, pepper, purpose)
    if claims is None:
        return None
    try:
        viewer = _DECODER.decode(claims)
    except msgspec.DecodeError:
        # Signed by another version.
        return None
    return viewer if now < viewer.expires_at else None
