"""Sign-ins that have begun: what has to be known when the browser comes back. Pure.

It is in a cookie of the browser that has begun it, sealed, for ten minutes; that it is over is in a
note that all processes share, so that each comes to an end once.
"""

from __future__ import annotations

import base64
import hashlib
import secrets

import msgspec

from gateway.access.credentials.pepper import Peppers
from gateway.access.credentials.sealing import seal_bytes, unseal_bytes

LIFE_SECONDS = 600
# Over TLS; its prefix binds it to the host and to TLS (RFC 6265bis, section 4.1.3.2).
HOST_COOKIE = "__Host-audit-sign-in"
PLAIN_COOKIE = "audit-sign-in"
# Kind of the notes of sign-ins that have come to an end.
KIND = "sign-in"
_PURPOSE = b"audit-gateway sign-in"
_PLACE = b"cookie"
# Longer than a sign-in may take.
_MINUTES = 16
_LONGEST_COOKIE = 4096


class PendingSignIn(msgspec.Struct, frozen=True, array_like=True):
    """A sign-in that has begun. `to`: the view of the console that it leads to."""

    state: str
    nonce: str
    verifier: str
    redirect_uri: str
    to: str
    expires_at: float

    @property
    def challenge(self) -> str:
        """Challenge of PKCE (RFC 7636, S256)."""
        return _text(hashlib.sha256(self.verifier.encode()).digest())


_DECODER = msgspec.json.Decoder(PendingSignIn)


def new_pending(redirect_uri: str, to: str, now: float) -> PendingSignIn:
    """A sign-in that begins now."""
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    return PendingSignIn(state, nonce, verifier, redirect_uri, to, now + LIFE_SECONDS)


def seal(pending: PendingSignIn, peppers: Peppers) -> str:
    """Value of its cookie."""
    sealed = seal_bytes(msgspec.json.encode(pending), peppers.current.secret, _PURPOSE, _PLACE)
    return _text(sealed)


def unseal(value: str, peppers: Peppers, now: float) -> PendingSignIn | None:
    """The sign-in of a cookie; None if it is no such cookie, or too old."""
    if len(value) > _LONGEST_COOKIE or not value.isascii():
        return None
    try:
        sealed = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except ValueError:
        return None
    for secret in peppers.for_tickets():
        opened = unseal_bytes(sealed, secret, _PURPOSE, _PLACE)
        if opened is not None:
            pending = _DECODER.decode(opened)
            return pending if now < pending.expires_at else None
    return None


class SignInUse:
    """Update of a shared note that records the end of a sign-in; `first` then says whether it is
    the only one.

    Each of a bounded number of notes, called `name`, holds those that expire in one minute. It is
    begun anew when its turn comes again, as those in it expired minutes ago.
    """

    def __init__(self, pending: PendingSignIn) -> None:
        self.first = False
        self._id = hashlib.sha256(pending.state.encode()).hexdigest()[:32]
        self._minute = int(pending.expires_at // 60)
        self.name = str(self._minute % _MINUTES)

    def __call__(self, document: bytes | None) -> bytes:
        """Note with this one added; `document` is the one before."""
        minute, over = (0, []) if document is None else _OVER.decode(document)
        if minute != self._minute:
            over = []
        self.first = self._id not in over
        return msgspec.json.encode((self._minute, [*over, self._id] if self.first else over))


_OVER = msgspec.json.Decoder(tuple[int, list[str]])


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
