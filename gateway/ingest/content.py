"""Content of an event: canonical form and digest of what its producer sent.

Two events have the same content if they differ only in the order of members, in
white space between tokens or in escapes within strings. Numbers count as
they are spelled. Members that the gateway fills in are not part of it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import orjson

_SORTED = orjson.OPT_SORT_KEYS
# Copying a prepared hash costs half as much as making one.
_EVENT, _RECORD = hashlib.sha256(), hashlib.sha256(b"record\n")


# Called for each number: this class is in C, and a Python function takes ten times as long.
_AS_SPELLED = json.JSONDecoder(parse_int=orjson.Fragment, parse_float=orjson.Fragment)


def canonical(item: bytes) -> bytes:
    """Canonical form of strict JSON: members sorted, no white space, numbers as spelled."""
    return orjson.dumps(_AS_SPELLED.decode(item.decode()), option=_SORTED)


def canonical_of(decoded: Any) -> bytes:
    """`canonical` of decoded JSON, which has to encode to the bytes that it was decoded from."""
    return orjson.dumps(decoded, option=_SORTED)


def content_digest(canonical: bytes) -> bytes:
    """Digest of an event in canonical form, as it was sent."""
    digest = _EVENT.copy()
    digest.update(canonical)
    return digest.digest()


def record_digest(canonical: bytes) -> bytes:
    """Digest of the source record of a mapped event: a changed mapping does not change it."""
    digest = _RECORD.copy()
    digest.update(canonical)
    return digest.digest()
