"""Content of an event: what its producer sent, in one form whatever the spelling around it.

Two sendings have the same content if they differ in the order of members, in
white space between tokens or in escapes within strings alone. Numbers count as
they are spelled. Members that the gateway fills in are no part of it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import orjson

_SORTED = orjson.OPT_SORT_KEYS
# Copies of what was begun cost half as much as beginning.
_EVENT, _RECORD = hashlib.sha256(), hashlib.sha256(b"record\n")


# Called for each number: made in C, where a function here would take ten times as long.
_AS_SPELLED = json.JSONDecoder(parse_int=orjson.Fragment, parse_float=orjson.Fragment)


def canonical(item: bytes) -> bytes:
    """Strict JSON with sorted members, without white space, with its numbers as spelled."""
    return orjson.dumps(_AS_SPELLED.decode(item.decode()), option=_SORTED)


def canonical_of(decoded: Any) -> bytes:
    """`canonical` of JSON that is the same bytes when it is decoded and encoded again."""
    return orjson.dumps(decoded, option=_SORTED)


def content_digest(canonical: bytes) -> bytes:
    """Digest of an event as it was sent."""
    digest = _EVENT.copy()
    digest.update(canonical)
    return digest.digest()


def record_digest(canonical: bytes) -> bytes:
    """Digest of the record that an event was mapped from: no mapping is part of it."""
    digest = _RECORD.copy()
    digest.update(canonical)
    return digest.digest()
