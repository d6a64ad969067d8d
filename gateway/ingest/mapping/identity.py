"""Ids of imported records: the same at each import of a record.

A source's own id is kept where it can be trusted to be unique. Where it is
missing, the id is made of the record's content: SHA-256 over the record with
its members sorted, so that white space and order do not matter.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

_ID = re.compile(r"[ -~]{1,128}")
_MARK_LENGTH = 32


def digest(record: dict[str, Any]) -> str:
    """SHA-256 of the record's content, as 64 hexadecimal digits."""
    return hashlib.sha256(msgspec.json.encode(record, order="deterministic")).hexdigest()


def marked(name: str, record: dict[str, Any]) -> str:
    """`name` followed by a mark of the content: equal only for equal records."""
    mark = digest(record)[:_MARK_LENGTH]
    candidate = f"{name}~{mark}"
    return candidate if _ID.fullmatch(candidate) else f"sha256-{digest(record)}"


def placed(name: str, place: int) -> str:
    """Id of one of the events that have one name, by its place among them."""
    candidate = f"{name}-{place}"
    if _ID.fullmatch(candidate):
        return candidate
    return f"sha256-{hashlib.sha256(candidate.encode()).hexdigest()}"
