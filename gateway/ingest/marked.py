"""Marked events: stand-ins in the log for records that cannot be stored as they are.

A record that is nested too deep or too large keeps who, what, when and outcome;
members of `data` that exceed the limits are left out, and `data.truncated` names
them. A record that makes no event at all becomes an event of category
`gateway.rejected`, which no wildcard in a grant reaches, with its text under
`data.rejected_item`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.event import DEFAULT_TENANT, MAX_DEPTH, MAX_EVENT_BYTES, Draft
from gateway.filters.scope import REJECTED, REJECTED_ITEM, RESERVED
from gateway.ingest.content import record_digest
from gateway.ingest.decode import decode_event
from gateway.ingest.gateway_event import new_gateway_event
from gateway.ingest.strict_json import Refused, TooMuch, check_depth
from gateway.sanitize import without_keys

# Most bytes that are kept of a rejected record, as a JSON string of the event.
MOST_KEPT_BYTES = 64 * 1024
_MOST_REASON = 1024
_MOST_NAMED = 100
_MOST_NAME = 256
# Most bytes of the members of `data`, together and each, so that the rest of the event fits.
_MOST_DATA_BYTES = 128 * 1024
_MOST_MEMBER_BYTES = 32 * 1024
# Most strings, brackets and commas of one item that are read. Objects of megabytes have a third.
_MOST_TOKENS = 500_000
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_STRUCTURE = re.compile(rb'["{}\[\],]')
_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder()
_TENANT = msgspec.json.Decoder(str)
_WHOLE = msgspec.json.Decoder(dict[str, msgspec.Raw])
_GOOD_TENANT = re.compile(r"[a-z0-9._-]{1,64}")
_MARK = "truncated"
# Values nested as deep are decoded and encoded again by any stack.
_SAFE_DEPTH = 500
_QUOTE = ord('"')


def fitting(item: bytes) -> tuple[bytes, bool]:
    """JSON of an event, truncated if it is nested too deep or too large, and whether it was.

    Other faults are left to the decoder. Raises as `truncated` does.
    """
    if len(item) <= MAX_EVENT_BYTES and not _is_too_deep(item):
        return item, False
    return truncated(item), True


def truncated(item: bytes) -> bytes:
    """JSON of an event without the members of `data` that exceed the limits.

    `data.truncated` holds the reason, the original size in bytes and the paths that were cut.
    Raises `Refused` if the item is not an object, or has a member twice.
    """
    if not item.lstrip().startswith(b"{"):
        raise Refused("", "an event is a JSON object")
    reason = f"larger than {MAX_EVENT_BYTES} bytes"
    if _is_too_deep(item):
        reason = f"nested deeper than {MAX_DEPTH} levels"
    event: dict[str, msgspec.Raw] = {}
    cut: list[str] = []
    data: dict[str, msgspec.Raw] = {}
    for name, value, _ in members_of(item, _MOST_TOKENS):
        if name in event or (name == "data" and data):
            raise Refused(name[:_MOST_NAME], "the member appears twice in one object")
        if name == "data":
            data = _kept(value, cut)
        else:
            event[name] = msgspec.Raw(value)
    mark: dict[str, Any] = {"reason": reason, "bytes": len(item), "cut": cut[:_MOST_NAMED]}
    if len(cut) > _MOST_NAMED:
        mark["more"] = len(cut) - _MOST_NAMED
    return _ENCODE({**event, "data": {**data, _MARK: mark}})


def pruned(text: bytes, depth: int = MAX_DEPTH) -> bytes:
    """JSON text with null in place of values nested deeper than `depth`, the limit of decoders.

    Invalid JSON stays invalid.
    """
    parts: list[bytes] = []
    level = kept = 0
    for start, _ in _tokens(text):
        first = text[start]
        if first in b"{[":
            level += 1
            if level == depth + 1:
                parts += [text[kept:start], b"null"]
        elif first in b"}]":
            level -= 1
            if level == depth:
                kept = start + 1
    return b"".join([*parts, text[kept:]]) if parts else text


def decoded_for_ids(raw: bytes) -> Any:
    """Decoded JSON, no deeper than it can be encoded again: both stop where the stack does."""
    if raw.count(b"{") + raw.count(b"[") <= _SAFE_DEPTH:
        return _DECODE.decode(raw)
    return _DECODE.decode(pruned(raw, _SAFE_DEPTH))


def decoded_shallowly(raw: bytes) -> Any:
    """Decoded JSON; null stands for what is nested deeper than decoders go."""
    try:
        return _DECODE.decode(raw)
    except RecursionError:
        return _DECODE.decode(pruned(raw))


def is_plain(text: bytes, most: int) -> bool:
    """Whether a strict check of an object costs no more than a look: it has fewer than `most` bytes
    and few brackets. Others are mostly envelopes, of which each record is checked by itself."""
    return len(text) < most and text.count(b"{") + text.count(b"[") <= MAX_DEPTH


def with_mark(data: bytes, record: dict[str, Any], mark: str) -> bytes:
    """JSON of a record with a member that is true, unless it is empty or has one of that name."""
    if mark in record or not record:
        return data
    return data[:-1] + b',"' + mark.encode() + b'":true}'


def _kept(data: bytes, cut: list[str]) -> dict[str, msgspec.Raw]:
    """Members of `data` that are kept; the paths of the others are added to `cut`."""
    kept: dict[str, msgspec.Raw] = {}
    if data[:1] != b"{":
        cut.append("data")
        return kept
    room = _MOST_DATA_BYTES
    for name, value, depth in members_of(data, _MOST_TOKENS):
        size = len(value) + len(name)
        # Two levels are the event and `data`.
        fits = size <= min(room, _MOST_MEMBER_BYTES) and depth + 2 <= MAX_DEPTH
        if fits and name != _MARK and name not in kept:
            kept[name] = msgspec.Raw(value)
            room -= size
        else:
            cut.append(f"data.{name[:_MOST_NAME]}")
    return kept


def members_of(text: bytes, most: int | None = None) -> Iterator[tuple[str, bytes, int]]:
    """Members of a JSON object: name, bytes of the value, and levels of nesting inside the value.

    The text is read token by token, however deep it is, and need not be valid. Raises `Refused`
    if there are more than `most` tokens.
    """
    depth = deepest = 0
    name: bytes | None = None
    begin = 0
    for number, (start, end) in enumerate(_tokens(text)):
        if number == most:
            raise Refused("", f"more than {most} strings, brackets and commas")
        first = text[start]
        if first == _QUOTE:
            if depth == 1 and name is None:
                name, begin = text[start:end], end
            continue
        if first in b"{[":
            depth += 1
            deepest = max(deepest, depth)
            continue
        if depth == 1 and name is not None:
            value = text[begin:start].lstrip().removeprefix(b":").strip()
            yield _name_of(name), value, deepest - 1
        if depth == 1:
            name, deepest = None, 1
        if first in b"}]":
            depth -= 1


def _tokens(text: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of each string, bracket and comma of a JSON text."""
    at = 0
    while (found := _STRUCTURE.search(text, at)) is not None:
        start, at = found.span()
        if text[start] == _QUOTE:
            # A plain search is quicker: most strings have no escapes, and some are large.
            at = text.find(b'"', at) + 1 or len(text)
            if text.find(b"\\", start, at) >= 0:
                string = _STRING.match(text, start)
                assert string is not None
                at = string.end()
        yield start, at


def _name_of(quoted: bytes) -> str:
    try:
        return str(msgspec.json.decode(quoted))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return quoted.decode(errors="replace")


def _is_too_deep(item: bytes) -> bool:
    if item.count(b"{") + item.count(b"[") <= MAX_DEPTH:
        return False
    try:
        check_depth(item)
    except TooMuch:
        return True
    return False


def tenant_of(item: bytes) -> str | None:
    """Tenant of an item that makes no event; None where it is not certain.

    The missing part of an item that is cut short may have named one.
    """
    if item[:1] != b"{":
        return None
    try:
        found = [value for name, value, _ in members_of(item, _MOST_TOKENS) if name == "tenant"]
        if not found:
            _WHOLE.decode(item)
            return DEFAULT_TENANT
        [tenant] = map(_TENANT.decode, found)
    except (msgspec.MsgspecError, ValueError, RecursionError, Refused):
        return None
    return tenant if _GOOD_TENANT.fullmatch(tenant) and tenant != RESERVED else None


def rejected_event(
    item: bytes,
    reason: str,
    *,
    id: str,
    tenant: str | None = None,
    path: str = "",
    by: str = "",
    address: str = "",
    client: str = "",
    origin: dict[str, Any] | None = None,
    content: bytes | None = None,
) -> Draft:
    """Marked event of an item that makes no event; the same item makes the same one again.

    `origin` are members of `data` that say where the item comes from. `content` is the content
    digest; that of the item if left out.
    """
    text, is_whole = _cut_text(item)
    kept: dict[str, Any] = {"reason": reason[:_MOST_REASON], "bytes": len(item), "content": text}
    if not is_whole:
        kept[_MARK] = True
    data = {**(origin or {}), "path": path[:_MOST_NAME], REJECTED_ITEM: kept}
    draft = new_gateway_event(
        id=id, tenant=tenant or RESERVED, category=REJECTED, action="item.rejected",
        outcome="failure", by=by, address=address, client=client, data=data,
    )  # fmt: skip
    return msgspec.structs.replace(draft, content=content or record_digest(item))


def _cut_text(item: bytes) -> tuple[str, bool]:
    """Text of an item, without keys and cut to the limit, and whether it is complete."""
    text = without_keys(item[: MOST_KEPT_BYTES + 1].decode(errors="replace"))
    is_whole = len(item) <= MOST_KEPT_BYTES
    most = MOST_KEPT_BYTES
    text = text[:most]
    while len(_ENCODE(text)) > MOST_KEPT_BYTES:
        # Escapes take more bytes than the characters that they stand for.
        most = most * MOST_KEPT_BYTES // len(_ENCODE(text)) - 1
        text, is_whole = text[:most], False
    return text, is_whole


class Lenient(msgspec.Struct):
    """Results of lenient decoding, each with the item's index in the request.

    `cut` has the reasons of the `drafts` that were truncated; `refused` the items without a draft.
    """

    drafts: list[tuple[int, Draft]] = []
    # The bytes of the items of `drafts`, in the same order.
    items: list[bytes] = []
    cut: dict[int, str] = {}
    refused: list[tuple[int, bytes, Refused]] = []

    def add(self, other: Lenient) -> None:
        """Add the results of further items."""
        self.drafts += other.drafts
        self.items += other.items
        self.cut |= other.cut
        self.refused += other.refused


def decode_leniently(
    items: list[bytes], new_id: Iterator[str], *, first: int = 0, mapped: bool = False
) -> Lenient:
    """Decode each item to a draft, truncated where it exceeds the limits, or to a refusal.

    `first` is the index of the first item in the request.
    """
    found = Lenient()
    for index, item in enumerate(items, first):
        try:
            try:
                found.drafts.append((index, decode_event(item, new_id, mapped=mapped)))
            except TooMuch as too_much:
                draft = decode_event(truncated(item), new_id, mapped=mapped)
                whole = msgspec.structs.replace(draft, content=record_digest(item))
                found.drafts.append((index, whole))
                found.cut[index] = too_much.reason
            found.items.append(item)
        except Refused as refused:
            found.refused.append((index, item, refused))
    return found
