"""Strict JSON of items, and their refusals. Pure.

Stricter than RFC 8259 where leniency would corrupt a record: duplicate members, NaN, Infinity, lone
surrogates and integers beyond 64 bits are refused, because parsers of other programs read them
differently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec
import orjson

from gateway.event import MAX_DEPTH
from gateway.ingest.content import canonical, canonical_of

# What `plain_json` makes of an item; None where it makes nothing, or was not asked.
Plain = dict[str, Any] | None
_LEAST, _MOST = -(2**63), 2**64 - 1


class Refused(Exception):
    """Refusal of one item. `path` is the member at fault, "" for the item as a whole."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[Refused], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class TooMuch(Refused):
    """Refusal of an item that is nested too deep or too large, and may be an event otherwise."""


class NotJson(Refused):
    """Refusal of an item that is not JSON."""


def checked_record(item: bytes, plain: Plain = None) -> tuple[dict[str, Any], bytes]:
    """Decoded object of strict JSON, and its canonical form. Raises `Refused`.

    `plain` is the item as `plain_json` decodes it, where the caller has done so."""
    if plain is None:
        plain = plain_json(item)
    if plain is not None:
        return plain, canonical_of(plain)
    spelled = check_json(item)
    return _decoded(item), canonical(item) if spelled is None else canonical_of(spelled)


def decoded_strictly(item: bytes) -> dict[str, Any]:
    """Decoded object of strict JSON. Raises `Refused`."""
    plain: dict[str, Any] | None = plain_json(item)
    if plain is not None:
        return plain
    check_json(item)
    return _decoded(item)


def _decoded(item: bytes) -> dict[str, Any]:
    try:
        record: dict[str, Any] = orjson.loads(item)
    except ValueError as error:
        raise NotJson("", f"not valid JSON: {error}") from None
    return record


class _Repeated(Exception):
    """An object has two members of the same name."""


class _Pairs(list[tuple[str, Any]]):
    """Object as a list of its members, duplicates included."""


def _members_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Repeated
    return members


def _repeated(value: Any, path: str) -> str | None:
    """Path of the first member that appears twice in its object; None if there is none."""
    inner: Iterable[tuple[str, Any]] = ()
    if isinstance(value, _Pairs):
        inner = ((f"{path}.{name}" if path else name, member) for name, member in value)
    elif isinstance(value, list):
        inner = ((f"{path}[{place}]", member) for place, member in enumerate(value))
    seen: set[str] = set()
    for name, member in inner:
        if name in seen:
            return name
        seen.add(name)
        found = _repeated(member, name)
        if found is not None:
            return found
    return None


def _integer(text: str) -> int:
    if len(text) < 19:
        return int(text)
    number = int(text) if len(text) <= 20 else _MOST + 1
    if not _LEAST <= number <= _MOST:
        raise Refused("", f"the integer {text[:24]} does not fit into 64 bits; send it as a string")
    return number


def _float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise Refused("", f"the number {text[:24]} is too large for a double; send it as a string")
    return number


def _constant(text: str) -> Any:
    raise Refused("", f"{text} is not JSON; leave the member out or send a string")


_STRICT = json.JSONDecoder(
    object_pairs_hook=_members_once,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_constant,
)
# Keeps numbers as spelled, without a call for each: for items in which none can be too large.
_STRICT_AS_SPELLED = json.JSONDecoder(
    object_pairs_hook=_members_once,
    parse_int=orjson.Fragment,
    parse_float=orjson.Fragment,
    parse_constant=_constant,
)
# A decoder in C holds the interpreter to the end, 5 ms for a large event, while the event loop
# waits: a function in Python gives other threads a turn at each number.
_LARGE_ITEM = 32 * 1024
_STRICT_LETTING_IN = json.JSONDecoder(
    object_pairs_hook=_members_once,
    parse_int=lambda text: orjson.Fragment(text),
    parse_float=lambda text: orjson.Fragment(text),
    parse_constant=_constant,
)
_ALL_ZEROS = bytes.maketrans(b"123456789E", b"000000000e")
_LARGE = (b"0" * 19, b"e000", b"e+000", b"e-000")
_LENIENT = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_int=str, parse_float=str, parse_constant=str
)


def plain_json(item: bytes, most: int = MAX_DEPTH) -> Any:
    """Decoded item if `check_json` would certainly accept it, as it does most; else None, as for
    what has more than `most` brackets.

    An item that is the same bytes when it is decoded and encoded again has lost no
    duplicate member, and no number or character was changed to fit.
    """
    # Looking for an absent bracket is quicker than counting it.
    if item.count(b"{") + (b"[" in item and item.count(b"[")) > most:
        return None
    try:
        decoded = orjson.loads(item)
        again = orjson.dumps(decoded)
    except ValueError:
        return None
    same = again == item or again == msgspec.json.format(item, indent=-1)
    return decoded if same and type(decoded) is dict else None


def check_json(item: bytes) -> Any:
    """Raise `Refused` unless the item is one strict JSON value, not nested too deep.

    Returns the decoded item for `canonical_of`, or None if it holds large numbers.
    """
    if item.count(b"{") + item.count(b"[") > MAX_DEPTH:
        check_depth(item)
    try:
        text = item.decode()
    except UnicodeDecodeError as error:
        raise NotJson("", f"not valid UTF-8 at byte {error.start}") from None
    try:
        zeros = item.translate(_ALL_ZEROS)
        large = any(digits in zeros for digits in _LARGE)
        strict = _STRICT_AS_SPELLED if len(item) < _LARGE_ITEM else _STRICT_LETTING_IN
        value = (_STRICT if large else strict).decode(text)
    except json.JSONDecodeError as error:
        raise NotJson("", f"not valid JSON: {error.msg} (character {error.pos + 1})") from None
    except _Repeated:
        raise _twice(text) from None
    if type(value) is not dict:
        raise Refused("", "an event is a JSON object")
    if "\\u" in text and re.search(r"\\u[dD][89a-fA-F]", text):
        _check_surrogates(json.loads(text))
    return None if large else value


def _twice(text: str) -> Refused:
    try:
        path = _repeated(_LENIENT.decode(text), "") or ""
    except json.JSONDecodeError:
        # The object is complete, but what follows it is not JSON.
        path = ""
    # The name may hold half of a surrogate pair, which an answer in UTF-8 cannot.
    path = path.encode(errors="replace").decode()
    return Refused(path, "the member appears twice in one object")


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refused(
            "", "a string holds half of a surrogate pair; send whole characters"
        ) from None


# The closing quote is optional: without that, an unclosed string would be searched to the end of
# the item again at each quote in it.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[{\[]|[}\]]', re.DOTALL)


def check_depth(item: bytes) -> None:
    """Raise `TooMuch` if the item is nested too deep."""
    depth = 0
    for token in _TOKENS.finditer(item):
        first = item[token.start()]
        if first in b"{[":
            depth += 1
            if depth > MAX_DEPTH:
                raise TooMuch("", f"nested deeper than {MAX_DEPTH} levels")
        elif first in b"}]":
            depth -= 1
