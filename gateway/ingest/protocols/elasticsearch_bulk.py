"""Bodies of Elasticsearch's bulk interface: lines of actions and of documents. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

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
_NOT_BLANK = re.compile(rb"\S")
_SPACE, _NO_LINE = ord(" "), (b"", 0)
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


class _Target(msgspec.Struct, gc=False):
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
    lines = _lines(body)
    last: BulkItem | None = None
    # Lines of a document that is none.
    broken: list[bytes] = []
    for line, start in lines:
        begun = _begun(line)
        if begun is None:
            if not _goes_on(last, broken):
                number = body.count(b"\n", 0, start) + 1
                raise InvalidRequest(
                    f"Malformed action/metadata line [{number}]: an object with one of create and "
                    'index is needed, such as {"create":{}}',
                    code="malformed_action",
                )
            broken.append(line)
            continue
        if last is not None:
            yield _whole(last, broken) if broken else last
        broken = []
        action, target = begun
        document = b"" if action == "delete" else next(lines, _NO_LINE)[0].rstrip()
        last = _item(action, target, index, document)
    if last is not None:
        yield _whole(last, broken) if broken else last


def _lines(body: bytes) -> Iterator[tuple[bytes, int]]:
    """The lines that are not blank, without space before them, and where each begins."""
    at = 0
    while at < len(body):
        if body[at] <= _SPACE:
            found = _NOT_BLANK.search(body, at)
            if found is None:
                return
            at = found.start()
        end = body.find(b"\n", at)
        if end < 0:
            end = len(body)
        yield body[at:end], at
        at = end + 1


def _goes_on(last: BulkItem | None, broken: list[bytes]) -> bool:
    """Whether a line that is no action can be a part of the last document."""
    if last is None or not last.raw:
        return False
    return len(broken) < _MOST_BROKEN if broken else not is_json(last.raw)


def _whole(item: BulkItem, broken: list[bytes]) -> BulkItem:
    """An action with all lines of its document."""
    return item._replace(raw=b"\n".join([item.raw, *broken]))


def name_of_index(index: str) -> str:
    """Name of an index without the date at its end."""
    return _DATE.sub("", index)


def _begun(line: bytes) -> tuple[str, _Target] | None:
    """Name and target of an action; None if the line has none."""
    try:
        [(action, target)] = _decode(line).items()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    return (action, target) if action in _ACTIONS else None


def _item(action: str, target: _Target, index: str, document: bytes) -> BulkItem:
    """An action with its document, which is empty if it is missing."""
    into, name = target.index or index or NO_INDEX, "" if target.id is None else str(target.id)
    error = reason = ""
    if action in ("update", "delete"):
        error = NOT_POSSIBLE
        reason = f"{action}: what is in the log stays as it is; use create"
    elif not _is_index(into):
        error = BAD_INDEX
        reason = f"Invalid index name [{into[:64]}]: a-z, 0-9, dot, _ and - are needed"
    if not document and action != "delete":
        error, reason = NOT_A_DOCUMENT, "the document is missing"
    return BulkItem(action, into, name, document, error, reason)


@lru_cache(maxsize=256)
def _is_index(name: str) -> bool:
    return _INDEX.fullmatch(name) is not None and name not in (".", "..")
