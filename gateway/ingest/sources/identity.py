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

from gateway.ingest.sources.native import text

_ID = re.compile(r"[ -~]{1,128}")
_MARK_LENGTH = 32
_REMEMBERED = 200_000


def digest(record: dict[str, Any]) -> str:
    """SHA-256 of the record's content, as 64 hexadecimal digits."""
    return hashlib.sha256(msgspec.json.encode(record, order="deterministic")).hexdigest()


def event_id(record: dict[str, Any], own: Any) -> str:
    """Id of a record's event: the source's `own` id if it fits, else one made of the content."""
    name = text(own, 129)
    if name is not None and _ID.fullmatch(name):
        return name
    return f"sha256-{digest(record)}"


def marked(name: str, record: dict[str, Any]) -> str:
    """`name` followed by a mark of the content: equal only for equal records."""
    mark = digest(record)[:_MARK_LENGTH]
    candidate = f"{name}~{mark}"
    return candidate if _ID.fullmatch(candidate) else f"sha256-{digest(record)}"


class SeenIds:
    """Ids seen within one import; records that share an id get different ones.

    The gateway drops an event whose id it knows as a duplicate. Exports that were
    shortened or made anonymous reuse ids for different records: a second record
    with the id of the first, but other content, gets a marked id. Only the newest
    200,000 ids are remembered, to bound the memory.
    """

    def __init__(self) -> None:
        self._contents: dict[str, str] = {}

    def settle(self, name: str, record: dict[str, Any]) -> str:
        """Id under which to send the record; `name` unless other content has it."""
        content = digest(record)[:_MARK_LENGTH]
        known = self._contents.setdefault(name, content)
        if len(self._contents) > _REMEMBERED:
            del self._contents[next(iter(self._contents))]
        return name if known == content else marked(name, record)
