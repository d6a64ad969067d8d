"""CSV (RFC 4180) of events in their native JSON: columns, cells, rows. Pure.

A column is a member, named by its path (`actor.id`, `data.user.mail`). Its cell is

    absent, null       empty
    text               as it is; with a `'` in front where a spreadsheet would take it for a formula
    number, boolean    as it stands in the event, digit for digit
    list               its items, joined by `; `; paths go through lists
    object             its JSON
    hidden             `***`, for whatever masks hide of this event, dropped members included
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from typing import Any

import msgspec

from gateway.cursor import IN_JSON, offset_in
from gateway.errors import InvalidRequest
from gateway.event import Event
from gateway.formats.shown_event import MASKED

CSV_TYPE = "text/csv"
BOM = b"\xef\xbb\xbf"
DEFAULT_COLUMNS = (
    "time", "tenant", "category", "action", "outcome", "severity", "actor.id", "actor.name",
    "targets.urn", "id", "cursor",
)  # fmt: skip
MOST_COLUMNS, LONGEST_COLUMN = 64, 256
# Members of events, with their own members.
_MEMBERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("cursor", "recorded_at", "id", "time", "tenant", "category", "action", "outcome",
         "severity", "reason", "masked", "pseudonymized"), (),
    ),
    "actor": ("type", "id", "name", "key_id"),
    "source": ("service", "ip", "port", "user_agent"),
    "targets": ("urn", "type", "id", "name"),
    "request": ("id", "trace_id"),
}  # fmt: skip
COLUMNS = tuple(
    [
        name
        for root, inner in _MEMBERS.items()
        for name in (root, *(f"{root}.{one}" for one in inner))
    ]
)
_DATA = "data"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_QUOTED = ('"', ",", "\r", "\n")
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_names = msgspec.json.Decoder(list[str]).decode
_MASKED_JSON = b'"***"'

# Which of the columns grants drop from an event, told by the members that a key sees of it.
Dropped = Callable[[Event], Collection[str]]


class CsvOptions(msgspec.Struct, frozen=True):
    """What a reader of CSV asks for. `raw`: texts that look like formulas stay as they are."""

    columns: tuple[str, ...] = DEFAULT_COLUMNS
    bom: bool = False
    raw: bool = False


def parse_columns(text: str) -> tuple[str, ...]:
    """Columns that are named, separated by commas. Raises `InvalidRequest`."""
    columns = tuple(text.split(","))
    if len(columns) > MOST_COLUMNS:
        raise InvalidRequest(f"columns: at most {MOST_COLUMNS}", parameter="columns")
    for column in columns:
        _check(column)
    if len({*columns}) < len(columns):
        raise InvalidRequest("columns: name each of them once", parameter="columns")
    return columns


def _check(column: str) -> None:
    root, *inner = column.split(".")
    if root == _DATA and "" not in inner and len(column) <= LONGEST_COLUMN:
        return
    if column in COLUMNS:
        return
    near = get_close_matches(column[:LONGEST_COLUMN], (*COLUMNS, _DATA), 1)
    hint = f"did you mean `{near[0]}`?" if near else "there are " + ", ".join((*COLUMNS, _DATA))
    raise InvalidRequest(
        f"columns: events have no member {column[:64]!r}; {hint} What is in `data` is named by its "
        "path, such as data.user",
        code="unknown_column",
        parameter="columns",
    )


def csv_head(options: CsvOptions) -> bytes:
    """What stands before the first row: the mark of UTF-8, if it is wished, and the names."""
    names = ",".join(map(_quoted, options.columns))
    return (BOM if options.bom else b"") + f"{names}\r\n".encode()


def csv_encoder(options: CsvOptions, dropped: Dropped | None = None) -> Callable[[bytes], bytes]:
    """Function from the native JSON of a masked event to its row, with its line break."""
    paths = [(column, column.split(".")) for column in options.columns]
    alone, raw = len(paths) == 1, options.raw

    def encode(native: bytes) -> bytes:
        members = _decode_object(native)
        masked = _decode_names(members["masked"]) if "masked" in members else ()
        gone: Collection[str] | None = None
        cells = []
        for column, path in paths:
            cell = _cell(_found(members, path), raw)
            if masked and (cell or path[0] == _DATA) and _within(column, masked):
                cell = MASKED
            if not cell and dropped is not None:
                if gone is None:
                    gone = dropped(_described(native, members))
                if column in gone:
                    cell = MASKED
            cells.append(_quoted(cell))
        # A row of one empty cell would be no row.
        text = ",".join(cells) or ('""' if alone else "")
        return f"{text}\r\n".encode()

    return encode


def _found(members: dict[str, msgspec.Raw], path: Sequence[str]) -> list[msgspec.Raw]:
    """Values at a path, which goes through lists; several if one was in between."""
    values: list[Any] = [members[path[0]]] if path[0] in members else []
    for name in path[1:]:
        inner = []
        for value in values:
            for item in _items(value):
                first = memoryview(item)[0]
                if first == ord("{") and (found := _decode_object(item).get(name)) is not None:
                    inner.append(found)
        values = inner
    return values


def _items(value: msgspec.Raw) -> list[msgspec.Raw]:
    """The value, or what is in it if it is a list, or a list of lists."""
    if memoryview(value)[0] != ord("["):
        return [value]
    return [inner for item in _decode_list(value) for inner in _items(item)]


def _cell(values: list[msgspec.Raw], raw: bool) -> str:
    if not values:
        return ""
    if len(values) == 1 and memoryview(values[0])[0] != ord("["):
        text, is_text = _text(values[0])
        return text if raw or not is_text else _harmless(text)
    joined = "; ".join([_text(item)[0] for value in values for item in _items(value)])
    return joined if raw else _harmless(joined)


def _text(value: msgspec.Raw) -> tuple[str, bool]:
    """What stands for a value that is no list, and whether it is text."""
    first = memoryview(value)[0]
    if first == ord('"'):
        return _decode_text(value), True
    if first == ord("n"):
        return "", False
    return bytes(value).decode(), False


def _harmless(text: str) -> str:
    """The text as no spreadsheet takes it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _quoted(cell: str) -> str:
    if any(mark in cell for mark in _QUOTED):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def csv_text(text: str) -> str:
    """Cell of a text, harmless in spreadsheets and quoted where it has to be."""
    return _quoted(_harmless(text))


def _within(column: str, masked: Sequence[str]) -> bool:
    """Whether a path is masked, or something that it is in."""
    return any(column == path or column.startswith(f"{path}.") for path in masked)


def _described(native: bytes, members: dict[str, msgspec.Raw]) -> Event:
    """The event as far as scopes are about it."""

    def text(name: str) -> str:
        return _decode_text(members[name])

    urns = [_decode_text(urn) for urn in _found(members, ["targets", "urn"])]
    cursor = native[IN_JSON]
    return Event(
        offset=offset_in(cursor), tenant=text("tenant"), category=text("category"),
        action=text("action"), outcome=text("outcome"), severity=int(bytes(members["severity"])),
        actor="", resources="\n".join(urns), cursor=cursor, json=native,
    )  # fmt: skip
