"""Console sessions, which a browser holds in place of a key.

A session's secret is 256 random bits in a cookie. The store keeps the session under a digest of it,
so that whoever reads the store cannot sign in. It ends with its key, on request, when no person has
done anything for half an hour, and after half a day.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

import msgspec

# Kind of the notes of sessions.
KIND = "session"
IDLE_SECONDS = 30 * 60
LIFE_SECONDS = 12 * 3600
# Persons are confirmed by their identity provider so often; if it does not answer, it is asked
# again after a while.
CONFIRM_SECONDS = 3600
AGAIN_SECONDS = 60
# What a person does is noted no more often, as each time is a write.
NOTED_SECONDS = 60
# For one key; the one that was idle longest goes first.
MOST_OF_KEY = 32
# Over TLS; its prefix binds it to the host and to TLS (RFC 6265bis, section 4.1.3.2).
HOST_COOKIE = "__Host-audit-session"
PLAIN_COOKIE = "audit-session"
_SECRET_BYTES = 32
_ID_DIGITS = 32
_ID = re.compile(rf"[0-9a-f]{{{_ID_DIGITS}}}", re.ASCII)
_LONGEST_SECRET = 64
_CSRF = b"audit-gateway csrf"


class Confirmation(msgspec.Struct, frozen=True):
    """When the identity provider has confirmed the person of a session, and the sealed token to
    have that done again (empty: it gave none). `tried_at` is the last attempt since."""

    at: float
    refresh: bytes = b""
    tried_at: float = 0.0

    def is_due(self, now: float) -> bool:
        """Whether the provider is to be asked now."""
        asks = bool(self.refresh) and now - self.at >= CONFIRM_SECONDS
        return asks and now - self.tried_at >= AGAIN_SECONDS

    def lasts_until(self) -> float:
        """How long it counts; with a token, there is as much time again to have it confirmed."""
        return self.at + CONFIRM_SECONDS * (2 if self.refresh else 1)


class Session(msgspec.Struct, frozen=True, omit_defaults=True):
    """A signed-in browser. Times are seconds since 1970; `id` is public."""

    id: str
    key_id: str
    created_at: float
    used_at: float
    address: str = ""
    client: str = ""
    # Of a person who has signed in by an identity provider.
    confirmed: Confirmation | None = None

    def ends_at(self) -> float:
        """When it ends unless a person does something."""
        ends = min(self.used_at + IDLE_SECONDS, self.created_at + LIFE_SECONDS)
        return ends if self.confirmed is None else min(ends, self.confirmed.lasts_until())

    def is_over(self, now: float) -> bool:
        """Whether it has ended by time."""
        return now >= self.ends_at()


_DECODER = msgspec.json.Decoder(Session)


def new_secret() -> str:
    """The secret of a new session, for its cookie."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def session_id(secret: str) -> str | None:
    """Public id of the session with this secret; None for what can be none."""
    if not secret.isascii() or not 0 < len(secret) <= _LONGEST_SECRET:
        return None
    return hashlib.sha256(secret.encode()).hexdigest()[:_ID_DIGITS]


def is_session_id(text: str) -> bool:
    """Whether this may be the public id of a session."""
    return _ID.fullmatch(text) is not None


def csrf_token(secret: str) -> str:
    """What a page of this session sends with each change, and pages of others cannot know."""
    return hmac.new(_bytes(secret), _CSRF, hashlib.sha256).hexdigest()


def is_csrf_token(sent: str, secret: str) -> bool:
    """Whether a request has the token of its session; compared in constant time."""
    return hmac.compare_digest(_bytes(sent), csrf_token(secret).encode())


def _bytes(sent: str) -> bytes:
    """Text of a header, which may hold any bytes."""
    return sent.encode(errors="surrogateescape")


def encoded(session: Session) -> bytes:
    """A session as a note."""
    return msgspec.json.encode(session)


def decoded(note: bytes) -> Session | None:
    """The session in a note; None for one of another version."""
    try:
        return _DECODER.decode(note)
    except msgspec.DecodeError:
        return None
