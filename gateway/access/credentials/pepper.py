"""Peppers: the secrets under which digests of keys are kept and tickets are signed. Pure.

One pepper is current and used for all that is new. During a rotation others are valid beside it, so
that no key and no stream is interrupted:

    coming     made, and not used yet: every process learns of it before the first key does
    previous   was current: keys and tickets made with it work, and a key moves on when it is used
    leaked     was current and became known to others, who can sign tickets with it: keys only

A pepper file is either 32 bytes or 64 hexadecimal digits, the current pepper, or lines of a
standing and 64 hexadecimal digits, such as `current 0f1e..`, the newest pepper first.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Literal, get_args

import msgspec

from gateway.errors import Conflict

BYTES = 32
Standing = Literal["coming", "current", "previous", "leaked"]
_LINE = re.compile(rf"({'|'.join(get_args(Standing))}) ([0-9a-f]{{{2 * BYTES}}})", re.ASCII)
_BARE = re.compile(rb"[0-9a-f]{64}\n?")
_ID_DIGITS = 12


class Pepper(msgspec.Struct, frozen=True):
    """One secret. Its `id` is stored with keys made with it, and reveals nothing of it."""

    secret: bytes
    standing: Standing = "current"

    @property
    def id(self) -> str:
        return pepper_id(self.secret)

    @property
    def replaced(self) -> bool:
        """Whether another pepper has replaced it."""
        return self.standing in ("previous", "leaked")


def pepper_id(secret: bytes) -> str:
    """Id of a pepper: twelve hexadecimal digits derived from it."""
    return hmac.digest(secret, b"pepper id", hashlib.sha256).hex()[:_ID_DIGITS]


class Peppers(msgspec.Struct, frozen=True):
    """All valid peppers, the newest first; exactly one is current."""

    all: tuple[Pepper, ...]

    @property
    def current(self) -> Pepper:
        return next(one for one in self.all if one.standing == "current")

    def by_id(self) -> dict[str, Pepper]:
        """Peppers by id. Keys from before peppers had ids ("") were made with the oldest."""
        return {"": self.all[-1], **{one.id: one for one in self.all}}

    def for_tickets(self) -> tuple[bytes, ...]:
        """Secrets under which a ticket may be signed, the current one first."""
        trusted = sorted(self.all, key=lambda one: one.standing != "current")
        return tuple(one.secret for one in trusted if one.standing != "leaked")

    def with_coming(self, secret: bytes) -> Peppers:
        """These peppers and a coming one, which `switched` makes current."""
        if self.all[0].standing == "coming":
            raise Conflict(
                "there is a coming pepper already; `audit-gateway pepper switch` makes it current"
            )
        return Peppers((Pepper(secret, "coming"), *self.all))

    def switched(self, *, leaked: bool) -> Peppers:
        """The peppers after a switch: the coming one is current, the one before it previous or
        leaked."""
        if self.all[0].standing != "coming":
            raise Conflict("there is no coming pepper; `audit-gateway pepper add` makes one")
        before: Standing = "leaked" if leaked else "previous"
        steps: dict[Standing, Standing] = {"coming": "current", "current": before}
        return Peppers(
            tuple(Pepper(one.secret, steps.get(one.standing, one.standing)) for one in self.all)
        )

    def without(self, identities: frozenset[str]) -> Peppers:
        """The peppers without those of these ids that were replaced."""
        return Peppers(
            tuple(one for one in self.all if not one.replaced or one.id not in identities)
        )


def parse_peppers(content: bytes) -> Peppers:
    """Parse a pepper file. Raises `ValueError` that says what is wrong."""
    if len(content) == BYTES:
        return Peppers((Pepper(content),))
    if _BARE.fullmatch(content):
        return Peppers((Pepper(bytes.fromhex(content.decode())),))
    found = []
    for number, line in enumerate(content.decode("ascii", "replace").splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            # The line is not repeated, as it may be a part of a secret.
            raise ValueError(f"{len(content)} bytes; line {number} is no pepper")
        standing: Standing = match[1]  # type: ignore[assignment]
        found.append(Pepper(bytes.fromhex(match[2]), standing))
    standings = [one.standing for one in found]
    if standings.count("current") != 1 or "coming" in standings[1:]:
        raise ValueError("it needs one current pepper, with at most a coming one before it")
    if standings.index("current") != standings.count("coming"):
        raise ValueError("the current pepper has to stand before those that are over")
    return Peppers(tuple(found))


def lines_of(text: str) -> bytes:
    """Content of a pepper file from the setting `server.pepper`, which is one line."""
    lines = [part.strip() for part in text.split(",") if part.strip()]
    return "".join(f"{one if ' ' in one else f'current {one}'}\n" for one in lines).encode()


def format_peppers(peppers: Peppers) -> bytes:
    """Content of a pepper file, as `parse_peppers` reads it."""
    lines = [f"{one.standing} {one.secret.hex()}\n" for one in peppers.all]
    return "".join(lines).encode()
