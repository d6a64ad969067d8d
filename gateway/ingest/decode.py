"""Decoding of the items of a request to validated drafts, or to every reason for refusal.

Stricter than RFC 8259 where leniency would corrupt a record: duplicate
members, NaN, Infinity, lone surrogates and integers beyond 64 bits are
refused, because parsers of other programs read them differently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import orjson
from msgspec import UNSET, UnsetType

from gateway.clock import format_rfc3339, parse_rfc3339
from gateway.errors import InvalidEvents
from gateway.event import DEFAULT_TENANT, MAX_DEPTH, MAX_EVENT_BYTES, SET_BY_GATEWAY, Draft, Members
from gateway.filters.scope import RESERVED, is_reserved
from gateway.ingest.content import canonical, canonical_of, content_digest, record_digest

MAX_REPORTED = 1000
_DECODER = msgspec.json.Decoder(Members)
_ENCODE = msgspec.json.Encoder().encode
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `(.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*?)`(?: - at `(.*)`)?", re.DOTALL)
_AT = re.compile(r"(.*) - at `(.*)`", re.DOTALL)
# By member: the rule of its pattern in words, for refusals.
_RULES = {
    "id": "1 to 128 printable ASCII characters are needed",
    "tenant": "1 to 64 of a-z, 0-9, dot, underscore and hyphen are needed",
    "category": "words of a-z, 0-9, _ and - with dots between, such as k8s.audit, are needed",
    "action": "words of letters, digits, _ - : and / with dots between, such as user.login, "
    "are needed",
    "urn": "at least one character, and no control characters, are needed",
}
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


def decode_events(
    items: Iterable[bytes], new_id: Iterator[str], *, mapped: bool = False, first: int = 0
) -> list[Draft]:
    """Drafts of all items, or `InvalidEvents` with the refusals, at most `MAX_REPORTED`."""
    drafts: list[Draft] = []
    errors: list[dict[str, Any]] = []
    for index, item in enumerate(items, first):
        try:
            drafts.append(decode_event(item, new_id, mapped=mapped))
        except Refused as refused:
            errors.append({"index": index, "path": refused.path, "reason": refused.reason})
            if len(errors) == MAX_REPORTED:
                break
    if errors:
        count = f"{len(errors)} or more" if len(errors) == MAX_REPORTED else str(len(errors))
        raise refused_events(count, errors)
    return drafts


def refused_events(
    count: str | int,
    errors: list[Any],
    remedy: str = "mend or remove the items named in `errors` and send the rest again",
) -> InvalidEvents:
    """Error for `count` refused events of a request, with what to do about them."""
    return InvalidEvents(
        f"refused: {count} of the events; nothing was stored; {remedy}", errors=errors
    )


def decode_event(
    item: bytes, new_id: Iterator[str], *, own: bool = False, mapped: bool = False
) -> Draft:
    """Draft of one event. Raises `Refused`.

    Only the gateway itself (`own`) may use its reserved tenant and categories. The content of a
    `mapped` event is the record under `data` that it was made from.
    """
    if len(item) > MAX_EVENT_BYTES:
        raise TooMuch("", f"the event has {len(item)} bytes; at most {MAX_EVENT_BYTES} are allowed")
    plain = _plain(item)
    spelled = _check_json(item) if plain is None else plain
    try:
        members = _members(item, own)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson("", f"not valid JSON: {error}") from None
    if members.time is not UNSET:
        try:
            members.time = format_rfc3339(parse_rfc3339(members.time))
        except ValueError as error:
            raise Refused("time", str(error)) from None
    if mapped and members.data is not UNSET:
        content = record_digest(canonical(bytes(members.data)))
    else:
        content = content_digest(canonical(item) if spelled is None else canonical_of(spelled))
    if members.id is UNSET:
        members.id = next(new_id)
    if members.data is not UNSET:
        _tidy_data(members, b"\n" in item or b"\r" in item)
    return draft_of(members, content)


def draft_of(members: Members, content: bytes = b"") -> Draft:
    """Draft of checked members, which have an id. `content` is a digest."""
    assert members.id is not UNSET
    return Draft(
        id=members.id,
        tenant=members.tenant,
        category=members.category,
        action=members.action,
        outcome=members.outcome,
        severity=members.severity,
        actor="" if members.actor is UNSET or members.actor.id is UNSET else members.actor.id,
        resources=_resources(members),
        has_time=members.time is not UNSET,
        tail=_ENCODE(members)[1:],
        content=content,
    )


class _Unchecked(Members, kw_only=True, forbid_unknown_fields=True):
    """`Members` without the patterns of names that repeat: those are matched once per name."""

    id: str | UnsetType = UNSET
    tenant: str = DEFAULT_TENANT
    category: str
    action: str


_QUICK = msgspec.json.Decoder(_Unchecked)
_MOST_KNOWN = 10_000
_known_names: set[tuple[str, str, str]] = set()


def _members(item: bytes, own: bool) -> Members:
    members = _QUICK.decode(item)
    names = (members.tenant, members.category, members.action)
    event_id = members.id
    good_id = event_id is UNSET or (
        0 < len(event_id) <= 128 and event_id.isascii() and event_id.isprintable()
    )
    if good_id and names in _known_names:
        return members
    checked = _DECODER.decode(item)
    if own:
        return checked
    # Known names are not reserved ones.
    _check_not_reserved(checked)
    if len(_known_names) >= _MOST_KNOWN:
        _known_names.clear()
    _known_names.add(names)
    return checked


def _check_not_reserved(members: Members) -> None:
    if is_reserved(members.category):
        raise Refused(
            "category",
            f"`{RESERVED}` and what begins with it is reserved for the gateway's own records",
        )
    if members.tenant == RESERVED:
        raise Refused("tenant", f"`{RESERVED}` is reserved for the gateway's own records")


def _resources(members: Members) -> str:
    if members.targets is UNSET:
        return ""
    return "\n".join(target.urn for target in members.targets if target.urn is not UNSET)


def _tidy_data(members: Members, broken: bool) -> None:
    """Check that `data` is an object, and put it on one line if the event has line breaks.

    White space between tokens is then removed; the tokens stay as sent."""
    assert members.data is not UNSET
    if memoryview(members.data)[0] != ord("{"):
        raise Refused("data", "an object is needed")
    if broken:
        members.data = msgspec.Raw(msgspec.json.format(members.data, indent=-1))


# Checks of JSON itself


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


def _plain(item: bytes) -> Any:
    """Decoded item if `_check_json` would certainly accept it, as it does most; else None.

    An item that is the same bytes when it is decoded and encoded again has lost no
    duplicate member, and no number or character was changed to fit.
    """
    # Looking for an absent bracket is quicker than counting it.
    if item.count(b"{") + (b"[" in item and item.count(b"[")) > MAX_DEPTH:
        return None
    try:
        decoded = orjson.loads(item)
        again = orjson.dumps(decoded)
    except ValueError:
        return None
    same = again == item or again == msgspec.json.format(item, indent=-1)
    return decoded if same and type(decoded) is dict else None


def _check_json(item: bytes) -> Any:
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


def _refusal(message: str) -> Refused:
    """Refusal, with path and reason, of a validation message of the decoder."""
    if match := _UNKNOWN.fullmatch(message):
        path = _join(match[2], match[1])
        if path in SET_BY_GATEWAY:
            return Refused(path, "the gateway sets this member; leave it out")
        return Refused(path, "unknown member; free-form content goes under `data`")
    if match := _MISSING.fullmatch(message):
        return Refused(_join(match[2], match[1]), "required")
    if match := _AT.fullmatch(message):
        path = match[2].removeprefix("$").removeprefix(".")
        rule = _RULES.get(path.rpartition(".")[2]) if "matching regex" in match[1] else None
        return Refused(path, rule or match[1])
    return Refused("", message)


def _join(parent: str | None, member: str) -> str:
    parent = (parent or "$").removeprefix("$").removeprefix(".")
    return f"{parent}.{member}" if parent else member
