"""Cursors: `<epoch>-<offset, zero-padded to 20 digits>`, and positions in one log.

Only this module and the stores know what is inside a cursor. As text they sort in
the order of the log, within one epoch.

A position is the offset behind which a reader reads on. Outside of the stores positions are
compared, and counted from by these functions alone, which another kind of log would replace.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated

from gateway.errors import InvalidRequest
from gateway.json_members import about

_CURSOR = re.compile(r"([a-z0-9]{1,16})-(\d{20})", re.ASCII)
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LARGEST = 2**63 - 1
# A cursor as text, where an answer declares it.
Cursor = Annotated[
    str, about("A position of the log. Opaque: send it back exactly as it was given.")
]

# Native JSON begins with its cursor, here, so that it is found without parsing.
JSON_PREFIX = b'{"cursor":"'
EPOCH_LENGTH = 10
IN_JSON = slice(len(JSON_PREFIX), len(JSON_PREFIX) + EPOCH_LENGTH + 21)


def new_epoch() -> str:
    """New epoch, the name of one life of a log: 10 characters, 50 random bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(EPOCH_LENGTH))


def format_cursor(epoch: str, offset: int) -> str:
    """Cursor right behind the event at `offset` (0: before the first)."""
    return f"{epoch}-{offset:020d}"


def parse_cursor(text: str) -> tuple[str, int]:
    """Parse a cursor from a client into `(epoch, offset)`."""
    match = _CURSOR.fullmatch(text)
    if match is None or int(match[2]) > _LARGEST:
        raise InvalidRequest(
            "the cursor is malformed; send back a cursor exactly as the gateway gave it",
            code="malformed_cursor",
        )
    return match[1], int(match[2])


def distance(after: int, until: int) -> int:
    """Number of events behind `after` up to `until`; 0 if `until` is not behind `after`."""
    return until - after if until > after else 0


def advance(position: int, events: int) -> int:
    """Position that many events further, or back if negative, but not before the first event."""
    return max(0, position + events)


def earlier(one: int, other: int) -> int:
    """The position that comes first."""
    return min(one, other)


def later(one: int, other: int) -> int:
    """The position that comes last."""
    return max(one, other)
