"""Cursors, `<epoch>-<offset, zero-padded to 20 digits>`, and positions in one log.

Only this module and the stores know the content of a cursor. As text, cursors sort in the order of
the log within one epoch.

A position is the offset after which a reader continues. Outside of the stores, positions are only
compared, and counted by these functions, which another kind of log would replace.
"""

from __future__ import annotations

import re
import secrets
from bisect import bisect_right
from collections.abc import Sequence
from typing import Annotated

from gateway.errors import InvalidRequest
from gateway.json_members import about

_CURSOR = re.compile(r"([a-z0-9]{1,16})-(\d{20})", re.ASCII)
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LARGEST = 2**63 - 1
# Declaration of cursors in answers.
Cursor = Annotated[
    str, about("A position of the log. Opaque: send it back exactly as it was given.")
]

# Native JSON begins with the cursor, which is so found without parsing.
JSON_PREFIX = b'{"cursor":"'
EPOCH_LENGTH = 10
IN_JSON = slice(len(JSON_PREFIX), len(JSON_PREFIX) + EPOCH_LENGTH + 21)


def new_epoch() -> str:
    """New epoch, the name of one life of a log: 10 characters, 50 random bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(EPOCH_LENGTH))


def format_cursor(epoch: str, offset: int) -> str:
    """Cursor after the event at `offset` (0: before the first)."""
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


def offset_in(cursor: bytes) -> int:
    """Offset of a cursor that stands in the native JSON of an event."""
    return int(cursor[-20:])


def distance(after: int, until: int) -> int:
    """Number of events after `after` up to `until`; 0 if there are none."""
    return until - after if until > after else 0


def advance(position: int, events: int) -> int:
    """Position `events` further (back if negative), but not before the first event."""
    return max(0, position + events)


def count_behind(offsets: Sequence[int], position: int) -> int:
    """How many of some offsets, in order, lie behind a position."""
    return len(offsets) - bisect_right(offsets, position)


def earlier(one: int, other: int) -> int:
    """The lower position."""
    return min(one, other)


def later(one: int, other: int) -> int:
    """The higher position."""
    return max(one, other)
