"""Records that report several events in one list: one record for each of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gateway.ingest.split import items_of
from gateway.ingest.strict_json import Refused

# Most bytes of all records that are made of one: each repeats what stands beside the list.
_MOST_BYTES = 16 * 1024 * 1024
_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODE = msgspec.json.Encoder().encode


def parts_of(raw: bytes, name: str, most: int | None) -> Iterator[bytes] | None:
    """The record with one item each of its list `name`; None if the list has at most one.

    Raises `Refused`, and `PayloadTooLarge` for more than `most` items.
    """
    try:
        members = _RAW.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    items = items_of(bytes(members[name]), most) if name in members else None
    if items is None or len(items) < 2:
        return None
    if (len(raw) - len(members[name])) * len(items) > _MOST_BYTES:
        raise Refused(name, "too many for the size of what they share; send them in parts")
    return (_ENCODE({**members, name: msgspec.Raw(b"[%b]" % item)}) for item in items)
