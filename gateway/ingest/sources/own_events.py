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
_TEXTS = [str] * len(_NEEDED)
_BEGIN = re.compile(rb'\A\{"cursor":"[^"]*","recorded_at":"[^"]*",')
_DECLARED = ("masked", "pseudonymized", "reduced")
_BEGINNING = ("cursor", "recorded_at")
_LEFT_OUT = (*_BEGINNING, *_DECLARED)
# Bytes without which nothing is declared: the names, and escapes in which they may be spelled.
_MAY_DECLARE = (*[f'"{name}"'.encode() for name in _DECLARED], b"\\u")
_PARTS = ("actor", "source", "targets", "request", "data")
_NO_IDS: Iterator[str] = iter(())
_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MEMBERS = msgspec.json.Decoder(dict[str, Any])
_ENCODE = msgspec.json.Encoder().encode


def is_given_out(value: Any) -> bool:
    """Whether decoded JSON is an event as gateways give it out."""
    if type(value) is not dict or "cursor" not in value:
        return False
    return [*map(type, map(value.get, _NEEDED))] == _TEXTS


def draft_of_own(raw: bytes, plain: dict[str, Any] | None = None) -> tuple[Draft, bool]:
    """Draft of an event that was given out, and whether it was truncated. Raises `Refused`.

    `plain` is what `plain_json` makes of it, where that is known."""
    begin = _BEGIN.match(raw)
    if begin is None or _may_declare(raw, plain):
        members = _RAW.decode(raw)
        if begin is None or any(name in members for name in _DECLARED):
            # A member that is there twice would be lost.
            check_json(raw)
            return draft_of_rest(_ENCODE(dict(_kept(members))))
    if plain is not None:
        plain = plain.copy()
        for name in _BEGINNING:
            del plain[name]
    return draft_of_rest(b"{" + raw[begin.end() :], plain)


def _may_declare(raw: bytes, plain: dict[str, Any] | None) -> bool:
    if plain is None:
        return any(name in raw for name in _MAY_DECLARE)
    return not plain.keys().isdisjoint(_DECLARED)


def draft_of_rest(item: bytes, plain: dict[str, Any] | None = None) -> tuple[Draft, bool]:
    """The same of what is behind its position and time of recording, and declares nothing."""
    try:
        return decode_event(item, _NO_IDS, plain=plain), False
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
