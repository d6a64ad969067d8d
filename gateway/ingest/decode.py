"""Decoding of the items of a request to validated drafts, or to every reason for refusal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from gateway.clock import format_rfc3339, parse_rfc3339
from gateway.errors import InvalidEvents
from gateway.event import DEFAULT_TENANT, MAX_EVENT_BYTES, SET_BY_GATEWAY, Draft, Members
from gateway.filters.scope import RESERVED, is_reserved
from gateway.ingest.content import canonical, canonical_of, content_digest, record_digest
from gateway.ingest.strict_json import NotJson, Refused, TooMuch, check_json, plain_json

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
    item: bytes,
    new_id: Iterator[str],
    *,
    own: bool = False,
    mapped: bool = False,
    plain: dict[str, Any] | None = None,
) -> Draft:
    """Draft of one event. Raises `Refused`.

    Only the gateway itself (`own`) may use its reserved tenant and categories. The content of a
    `mapped` event is the record under `data` that it was made from. `plain` is the item as
    `plain_json` decodes it, where the caller has done so.
    """
    if len(item) > MAX_EVENT_BYTES:
        raise TooMuch("", f"the event has {len(item)} bytes; at most {MAX_EVENT_BYTES} are allowed")
    if plain is None:
        plain = plain_json(item)
    spelled = check_json(item) if plain is None else plain
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
    targets = members.targets
    if targets is UNSET:
        return ""
    if len(targets) == 1:
        urn = targets[0].urn
        return "" if urn is UNSET else urn
    return "\n".join(target.urn for target in targets if target.urn is not UNSET)


def _tidy_data(members: Members, broken: bool) -> None:
    """Check that `data` is an object, and put it on one line if the event has line breaks.

    White space between tokens is then removed; the tokens stay as sent."""
    assert members.data is not UNSET
    if memoryview(members.data)[0] != ord("{"):
        raise Refused("data", "an object is needed")
    if broken:
        members.data = msgspec.Raw(msgspec.json.format(members.data, indent=-1))


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
