"""Stream tickets, which browsers get in place of a key that they could not keep secret.

A ticket is `alpt_<claims>.<signature>`, both base64url: the claims are JSON, the signature is
HMAC-SHA-256 under a key derived from the pepper, so that any replica can verify it. A ticket opens
one stream within 30 seconds.

Over SSE the answer sets a cookie, with which the browser reconnects to that stream for as long as
the key and the cookie allow. It is `<expiry>.<begin>.<until>.<signature>`, and short, since the
parameters of the stream are in the ticket, which is in the URL of each reconnect.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

PREFIX = "alpt_"
TICKET_SECONDS = 30
COOKIE_SECONDS = 12 * 3600
MAX_LENGTH = 8 * 1024
COOKIE_NAME = "audit_stream_"
# For one browser: RFC 6265, section 6.1, and header limits of servers. The oldest goes first.
MOST_COOKIES = 8
# Kind of the notes of used tickets.
KIND = "used-ticket"
_PURPOSE = b"audit-gateway stream ticket"
_COOKIE_PURPOSE = b"audit-gateway stream cookie"
_COOKIE = re.compile(r"([0-9]{1,12})\.([a-z0-9-]{1,64})\.([a-z0-9-]{0,64})\.([0-9A-Za-z_-]{43})")
# Names of stream cookies, over TLS and not.
_COOKIE_NAMES = re.compile(rf"(?:__Secure-)?{COOKIE_NAME}[0-9A-Za-z_-]{{1,64}}")
_SENT_COOKIE = re.compile(rf"(?:^|;)[ \t]*+({_COOKIE_NAMES.pattern})[ \t]*+=([^;]*)")
_MOST_FORGOTTEN = 4 * MOST_COOKIES
_MINUTES = 4
_SHARD_DIGITS = 2
_NOTHING_USED: tuple[int, list[str]] = (0, [])
_USED = msgspec.json.Decoder(tuple[int, list[str]])


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """Right to open the stream of `key_id` with exactly these parameters. `expires_at` is in
    seconds since 1970. `session` is that of a person, with which the stream ends."""

    id: str
    key_id: str
    parameters: tuple[tuple[str, str], ...]
    origin: str | None
    expires_at: float
    session: str = ""
    # Whom it was made for, as records of its use name them.
    subject: str = ""


class UsedOnce(Protocol):
    """Credentials that count once."""

    @property
    def id(self) -> str: ...
    @property
    def expires_at(self) -> float: ...


class StreamCookie(msgspec.Struct, frozen=True):
    """Right of a browser to reconnect to the stream of a ticket.

    `begin` is the cursor where the stream began: it goes on from there or later. `until` is the
    cursor at which it is complete, "" for a stream without an end. `expires_at` is in seconds since
    1970.
    """

    ticket_id: str
    expires_at: int
    begin: str
    until: str = ""


_DECODER = msgspec.json.Decoder(Ticket)


def new_ticket(
    key_id: str,
    parameters: tuple[tuple[str, str], ...],
    origin: str | None,
    now: float,
    session: str = "",
    subject: str = "",
) -> Ticket:
    """New ticket with a random id."""
    expires_at = now + TICKET_SECONDS
    return Ticket(secrets.token_hex(8), key_id, parameters, origin, expires_at, session, subject)


def sign(ticket: Ticket, pepper: bytes) -> str:
    """Text of a ticket, signed."""
    return signed(PREFIX, msgspec.json.encode(ticket), pepper, _PURPOSE)


def read_ticket(text: str, pepper: bytes, now: float) -> Ticket | None:
    """Verify the text of a ticket; None if it is invalid or expired."""
    claims = verified(PREFIX, text, pepper, _PURPOSE)
    if claims is None:
        return None
    try:
        ticket = _DECODER.decode(claims)
    except msgspec.DecodeError:
        # Signed by another version.
        return None
    return ticket if now < ticket.expires_at else None


def signed(prefix: str, claims: bytes, pepper: bytes, purpose: bytes) -> str:
    """Text of claims with a signature for one purpose."""
    return f"{prefix}{_encode(claims)}.{_encode(_signature(claims, pepper, purpose))}"


def verified(prefix: str, text: str, pepper: bytes, purpose: bytes) -> bytes | None:
    """Claims of a text that was signed for this purpose; None for any other text."""
    claims_text, dot, signature_text = text.removeprefix(prefix).partition(".")
    if not text.startswith(prefix) or not dot or len(text) > MAX_LENGTH:
        return None
    try:
        claims, signature = _decode(claims_text), _decode(signature_text)
    except ValueError:
        return None
    if not hmac.compare_digest(_signature(claims, pepper, purpose), signature):
        return None
    return claims


def new_cookie(ticket: Ticket, begin: str, until: str, now: float) -> StreamCookie:
    """Cookie of a stream that a ticket has just opened."""
    return StreamCookie(ticket.id, int(now) + COOKIE_SECONDS, begin, until)


def sign_cookie(cookie: StreamCookie, pepper: bytes) -> str:
    """Value of a cookie, signed."""
    said = f"{cookie.expires_at}.{cookie.begin}.{cookie.until}"
    signed = f"{cookie.ticket_id}.{said}".encode()
    return f"{said}.{_encode(_signature(signed, pepper, _COOKIE_PURPOSE))}"


def read_cookie(value: str, ticket_id: str, pepper: bytes, now: float) -> StreamCookie | None:
    """Verify the value of a ticket's cookie; None if it is invalid or expired."""
    match = _COOKIE.fullmatch(value)
    if match is None:
        return None
    cookie = StreamCookie(ticket_id, int(match[1]), match[2], match[3])
    if not hmac.compare_digest(sign_cookie(cookie, pepper), value):
        return None
    return cookie if now < cookie.expires_at else None


def stream_cookies(lines: Iterable[str]) -> dict[str, str]:
    """Stream cookies in the `Cookie` headers of a request, by name.

    HTTP/2 splits these headers, and a proxy may leave them on several lines (RFC 9113, section
    8.2.3). Of one name the first counts: browsers begin with the longest path (RFC 6265, section
    5.4).
    """
    cookies: dict[str, str] = {}
    for line in lines:
        for name, value in _SENT_COOKIE.findall(line):
            cookies.setdefault(name, value.strip(' \t"'))
    return cookies


def stale_cookies(cookies: Mapping[str, str]) -> list[str]:
    """Names of the stream cookies to delete before another is set: some at a time, as clients limit
    the size of headers."""
    ages = {
        name: int(match[1]) if (match := _COOKIE.fullmatch(value)) else 0
        for name, value in cookies.items()
        if _COOKIE_NAMES.fullmatch(name)
    }
    # Cookies of another form, which open nothing, have age 0.
    oldest = sorted(ages, key=lambda name: ages[name])
    stale = max(sum(age == 0 for age in ages.values()), len(ages) - MOST_COOKIES + 1)
    return oldest[: min(max(stale, 0), _MOST_FORGOTTEN)]


class UsedTickets:
    """Tickets that this process has seen used, until they expire."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, ticket: UsedOnce) -> bool:
        return ticket.id in self._until

    def add(self, ticket: UsedOnce, now: float) -> bool:
        """Add a used ticket; return False if it was used before."""
        while self._until and self._until[oldest := next(iter(self._until))] <= now:
            del self._until[oldest]
        if ticket.id in self._until:
            return False
        self._until[ticket.id] = ticket.expires_at
        return True

    def remove(self, ticket: UsedOnce) -> None:
        """Remove a ticket that was not used after all."""
        self._until.pop(ticket.id, None)


class TicketUse:
    """Update of a shared note that records the use of a ticket; `first` then says whether it is the
    only one.

    Each of a bounded number of notes, called `name`, holds the tickets that expire in one minute.
    It is begun anew when its turn comes again, as those in it expired minutes ago.
    """

    def __init__(self, ticket: UsedOnce) -> None:
        self.first = False
        self._id = ticket.id
        self._minute = int(ticket.expires_at // 60)
        self.name = f"{self._minute % _MINUTES}-{ticket.id[:_SHARD_DIGITS]}"

    def __call__(self, document: bytes | None) -> bytes:
        """Note with this use added; `document` is the one before."""
        minute, used = _NOTHING_USED if document is None else _USED.decode(document)
        if minute != self._minute:
            used = []
        self.first = self._id not in used
        return msgspec.json.encode((self._minute, [*used, self._id] if self.first else used))

    def undo(self, document: bytes | None) -> bytes | None:
        """Note without this use, as the ticket opened nothing."""
        minute, used = _NOTHING_USED if document is None else _USED.decode(document)
        if minute != self._minute:
            return document
        return msgspec.json.encode((minute, [one for one in used if one != self._id]))


def _signature(claims: bytes, pepper: bytes, purpose: bytes) -> bytes:
    key = hmac.digest(pepper, purpose, hashlib.sha256)
    return hmac.digest(key, claims, hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
