"""Events that a gateway has given out, which come back as the events that they were. Pure.

What the gateway that gave them out had set is left out: position, time of recording, and the
declaration of what it masked. Masked values of members that are no text are left out as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.event import Draft
from gateway.ingest.decode import decode_event
from gateway.ingest.marked import truncated
from gateway.ingest.strict_json import TooMuch, check_json

_NEEDED = ("cursor", "recorded_at", "id", "time", "tenant", "category", "action")
_BEGIN = re.compile(rb'\A\{"cursor":"[^"]*","recorded_at":"[^"]*",')
_DECLARED = ("masked", "pseudonymized", "reduced")
_LEFT_OUT = ("cursor", "recorded_at", *_DECLARED)
_PARTS = ("actor", "source", "targets", "request", "data")
_NO_IDS: Iterator[str] = iter(())
_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MEMBERS = msgspec.json.Decoder(dict[str, Any])
_ENCODE = msgspec.json.Encoder().encode


def is_given_out(value: Any) -> bool:
    """Whether decoded JSON is an event as gateways give it out."""
    return type(value) is dict and all(type(value.get(name)) is str for name in _NEEDED)


def draft_of_own(raw: bytes) -> tuple[Draft, bool]:
    """Draft of an event that was given out, and whether it was truncated. Raises `Refused`."""
    item, count = _BEGIN.subn(b"{", raw, count=1)
    members = _RAW.decode(raw)
    if not count or any(name in members for name in _DECLARED):
        # A member that is there twice would be lost.
        check_json(raw)
        item = _ENCODE(dict(_kept(members)))
    try:
        return decode_event(item, _NO_IDS), False
    except TooMuch:
        return decode_event(truncated(item), _NO_IDS), True


def _kept(members: dict[str, msgspec.Raw]) -> Iterator[tuple[str, msgspec.Raw]]:
    for name, value in members.items():
        if name in _LEFT_OUT or (name in _PARTS and bytes(value)[:1] not in (b"{", b"[")):
            continue
        if name == "source":
            value = _typed(value)
        yield name, value


def _typed(source: msgspec.Raw) -> msgspec.Raw:
    """The member `source`, without a port that is no number."""
    members = _MEMBERS.decode(source)
    if type(members.get("port")) is not str:
        return source
    del members["port"]
    return msgspec.Raw(_ENCODE(members))
