"""Stream tickets: what a browser is given instead of a key, which it could not keep secret.

`alpt_<claims>.<signature>`, both base64url: the claims are JSON, the signature
is HMAC-SHA-256 under a key derived from the pepper, so that any replica can
check it. A ticket opens one stream within 30 seconds. Over SSE the answer sets
a cookie of the same form, with which the browser's own reconnects go on with
that stream for as long as the key and the cookie's time allow.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Literal

import msgspec

PREFIX = "alpt_"
TICKET_SECONDS = 30
COOKIE_SECONDS = 12 * 3600
MAX_LENGTH = 8 * 1024
# Of the notes of used tickets.
KIND = "used-ticket"
_PURPOSE = b"audit-gateway stream ticket"
_MINUTES = 4
_SHARD_DIGITS = 2
_NOTHING_USED: tuple[int, list[str]] = (0, [])
_USED = msgspec.json.Decoder(tuple[int, list[str]])


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """What a ticket or a cookie allows: the stream of `key_id` with exactly these parameters.

    `id` is shared by a ticket and its cookie. `expires_at` in seconds since 1970. `begin` is the
    cursor where the stream of a cookie began; it goes on from there or from later.
    """

    kind: Literal["ticket", "cookie"]
    id: str
    key_id: str
    parameters: tuple[tuple[str, str], ...]
    origin: str | None
    expires_at: float
    begin: str = ""

    def as_cookie(self, now: float, begin: str) -> Ticket:
        """The cookie with which the browser comes back."""
        until = now + COOKIE_SECONDS
        return msgspec.structs.replace(self, kind="cookie", expires_at=until, begin=begin)


_DECODER = msgspec.json.Decoder(Ticket)


def new_ticket(
    key_id: str, parameters: tuple[tuple[str, str], ...], origin: str | None, now: float
) -> Ticket:
    """A ticket that nobody has seen yet."""
    return Ticket("ticket", secrets.token_hex(8), key_id, parameters, origin, now + TICKET_SECONDS)


def sign(ticket: Ticket, pepper: bytes) -> str:
    """The text of a ticket or cookie."""
    claims = msgspec.json.encode(ticket)
    return f"{PREFIX}{_encode(claims)}.{_encode(_signature(claims, pepper))}"


def read_ticket(text: str, pepper: bytes, now: float) -> Ticket | None:
    """The ticket or cookie that a text is; None if it is none of ours, or is over."""
    claims_text, dot, signature_text = text.removeprefix(PREFIX).partition(".")
    if not text.startswith(PREFIX) or not dot or len(text) > MAX_LENGTH:
        return None
    try:
        claims, signature = _decode(claims_text), _decode(signature_text)
    except ValueError:
        return None
    if not hmac.compare_digest(_signature(claims, pepper), signature):
        return None
    ticket = _DECODER.decode(claims)
    return ticket if now < ticket.expires_at else None


class UsedTickets:
    """The tickets that this process has seen used, for as long as they last."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, ticket: Ticket, now: float) -> bool:
        """Note that it is used; False if it was noted before."""
        while self._until and self._until[oldest := next(iter(self._until))] <= now:
            del self._until[oldest]
        if ticket.id in self._until:
            return False
        self._until[ticket.id] = ticket.expires_at
        return True

    def remove(self, ticket: Ticket) -> None:
        """It was not used after all."""
        self._until.pop(ticket.id, None)


class Use:
    """Notes the use of a ticket beside others in `name`, one of a bounded number of notes that
    all processes share; `first` then says whether it is the only one.

    A note holds the tickets that end in one minute. It is begun anew when its turn comes again:
    those in it have been over for minutes.
    """

    def __init__(self, ticket: Ticket) -> None:
        self.first = False
        self._id = ticket.id
        self._minute = int(ticket.expires_at // 60)
        self.name = f"{self._minute % _MINUTES}-{ticket.id[:_SHARD_DIGITS]}"

    def __call__(self, document: bytes | None) -> bytes:
        """The note after it; what is there before it is None or such a note."""
        minute, used = _NOTHING_USED if document is None else _USED.decode(document)
        if minute != self._minute:
            used = []
        self.first = self._id not in used
        return msgspec.json.encode((self._minute, [*used, self._id] if self.first else used))


def _signature(claims: bytes, pepper: bytes) -> bytes:
    key = hmac.digest(pepper, _PURPOSE, hashlib.sha256)
    return hmac.digest(key, claims, hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
