"""Bodies of Elasticsearch's bulk interface: lines of actions and of documents. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from gateway.errors import InvalidRequest
from gateway.ingest.protocols.stacked_values import is_json

# Types of the errors of items.
NOT_A_DOCUMENT = "mapper_parsing_exception"
NOT_POSSIBLE = "illegal_argument_exception"
BAD_INDEX = "invalid_index_name_exception"
# Where neither the address nor the action names one.
NO_INDEX = "audit"
_ACTIONS = ("create", "index", "update", "delete")
_INDEX = re.compile(r"[a-z0-9.][a-z0-9._-]{0,254}", re.ASCII)
_DATE = re.compile(r"[-_.]\d{4}[-_.]\d{2}(?:[-_.]\d{2})?\Z", re.ASCII)
_LINE = re.compile(rb"\S[^\n]*+")
# Most lines of a document that is none.
_MOST_BROKEN = 1000


class BulkItem(NamedTuple):
    """One action, with its document. `error` is the type of what is wrong with it, and `reason`
    says why."""

    action: str
    into: str
    id: str
    raw: bytes = b""
    error: str = ""
    reason: str = ""

    def without_document(self) -> BulkItem:
        """The action alone."""
        action, into, name, _, error, reason = self
        return BulkItem(action, into, name, b"", error, reason)


class _Target(msgspec.Struct):
    """What an action is about; other members change nothing here. Null is as good as none:
    programs send members that they do not set."""

    index: str | None = msgspec.field(default=None, name="_index")
    id: str | int | float | None = msgspec.field(default=None, name="_id")


_decode = msgspec.json.Decoder(dict[str, _Target]).decode


def items_of_bulk(body: bytes, index: str = "") -> Iterator[BulkItem]:
    """The actions of a body, in order; `index` is that of those that name none.

    Blank lines count for nothing. What follows a document that is no JSON, and is no action, is a
    part of it: its text had line breaks. Raises `InvalidRequest` for any other line that is none.
    """
    lines = _LINE.finditer(body)
    last: BulkItem | None = None
    # Lines of a document that is none.
    broken: list[bytes] = []
    for found in lines:
        begun = _begun(found[0], index)
        if begun is None:
            if not _goes_on(last, broken):
                number = body.count(b"\n", 0, found.start()) + 1
                raise InvalidRequest(
                    f"Malformed action/metadata line [{number}]: an object with one of create and "
                    'index is needed, such as {"create":{}}',
                    code="malformed_action",
                )
            broken.append(found[0])
            continue
        if last is not None:
            yield _whole(last, broken)
        last, broken = begun, []
        if begun.action != "delete":
            document = next(lines, None)
            if document is None:
                last = begun._replace(error=NOT_A_DOCUMENT, reason="the document is missing")
            else:
                last = BulkItem(*begun[:3], document[0].rstrip(), *begun[4:])
    if last is not None:
        yield _whole(last, broken)


def _goes_on(last: BulkItem | None, broken: list[bytes]) -> bool:
    """Whether a line that is no action can be a part of the last document."""
    if last is None or not last.raw:
        return False
    return len(broken) < _MOST_BROKEN if broken else not is_json(last.raw)


def _whole(item: BulkItem, broken: list[bytes]) -> BulkItem:
    """An action with all lines of its document."""
    return item._replace(raw=b"\n".join([item.raw, *broken])) if broken else item


def name_of_index(index: str) -> str:
    """Name of an index without the date at its end."""
    return _DATE.sub("", index)


def _begun(line: bytes, index: str) -> BulkItem | None:
    """An action without its document; None if the line has none."""
    try:
        action, target = _single(_decode(line))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    if action not in _ACTIONS:
        return None
    item = BulkItem(
        action, target.index or index or NO_INDEX, "" if target.id is None else str(target.id)
    )
    if action in ("update", "delete"):
        reason = f"{action}: what is in the log stays as it is; use create"
        return item._replace(error=NOT_POSSIBLE, reason=reason)
    if not _INDEX.fullmatch(item.into) or item.into in (".", ".."):
        reason = f"Invalid index name [{item.into[:64]}]: a-z, 0-9, dot, _ and - are needed"
        return item._replace(error=BAD_INDEX, reason=reason)
    return item


def _single(members: dict[str, Any]) -> tuple[str, Any]:
    """The only member. Raises `ValueError`."""
    [member] = members.items()
    return member
