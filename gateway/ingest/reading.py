"""Reading of the records of an export file, one after another.

A file is NDJSON, one JSON array or one object, also several of these behind each other, in UTF-8,
possibly compressed or in a zip archive; a line may have text before its JSON. What it is shows in
the content, never in the name. NDJSON is read line by line; only a document is held in memory as a
whole. Envelopes around records are opened by their source. Of a source with a reader lines are
records of their own.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import msgspec

from gateway.ingest.compressed import Damaged, NotPlain, joined, plain_files
from gateway.ingest.split import Steps, items_in_steps, text_inside, too_many, whole_in_steps

# A document or a line. CloudTrail's documents hold 50 MB at most.
MAX_UNIT_BYTES = 256 * 1024 * 1024
_SHOWN_OF_A_LONG_LINE = 1024
_SEPARATOR = b"\x1e"
_BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\n\r]*")
_JSON_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# Whether a record goes on behind a line, by the line and what was said of the one before.
GoesOn = Callable[[bytes, bool], bool]

_any_value = msgspec.json.Decoder(msgspec.Raw)
_text_decoder = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Record:
    """One record, or an envelope around several; `raw` as it was read.

    `line` counts from 1. `item` is the place within the array or document that
    begins on that line, from 1; None for a record that is a line of its own. `member` is the file
    within an archive, else "".
    """

    line: int
    item: int | None
    raw: bytes
    member: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Line, or part of one, that holds no record. `raw` is its text."""

    line: int
    item: int | None
    raw: bytes
    reason: str
    member: str = ""


def read_text(
    text: bytes, most: int, goes_on: GoesOn | None = None
) -> Iterator[Record | Unreadable | None]:
    """Records of a text in memory, which is not looked at as compressed; None wherever others may
    have their turn.

    Raises `PayloadTooLarge` if one array or line has more than `most` items.
    """
    for found in _units(io.BytesIO(text), goes_on, most):
        if found is None:
            yield None
        else:
            yield from _records(*found, most, goes_on is not None)


def read_records(
    stream: io.BufferedIOBase, goes_on: GoesOn | None = None
) -> Iterator[Record | Unreadable]:
    """Records of the stream in order; `Unreadable` for each part that holds none."""
    for file in plain_files(stream, takes_csv=goes_on is not None):
        if isinstance(file, NotPlain):
            yield Unreadable(1, None, b"", file.reason, file.member)
            continue
        for found in _read_plain(file.stream, goes_on):
            yield replace(found, member=file.member) if file.member else found


def read_lines(
    text: bytes, number: int, goes_on: GoesOn | None = None
) -> Iterator[Record | Unreadable]:
    """Records of lines of a file, the first of which has this number; none spans lines, but for
    `goes_on`."""
    for line, unit in _lines(io.BytesIO(text), number, goes_on):
        yield from filter(None, _records(line, unit, None, goes_on is not None))


def closed_length(text: bytes, goes_on: GoesOn | None = None) -> int:
    """Length of the whole lines in `text`, without those on which the last record may go on."""
    whole = text.rfind(b"\n") + 1
    if goes_on is None or not whole:
        return whole
    at = closed = 0
    is_open = False
    for line in io.BytesIO(text[:whole]):
        at += len(line)
        is_open = goes_on(line, is_open) if is_open or not is_json(line.lstrip()) else False
        if not is_open:
            closed = at
    return closed


def _read_plain(stream: io.BufferedIOBase, goes_on: GoesOn | None) -> Iterator[Record | Unreadable]:
    units = _units(stream, goes_on)
    line = 1
    while True:
        try:
            found = next(units)
        except StopIteration:
            return
        except Damaged as error:
            yield Unreadable(line, None, b"", str(error))
            return
        if found is None:
            continue
        line, unit = found
        if len(unit) > MAX_UNIT_BYTES:
            reason = f"longer than {MAX_UNIT_BYTES} bytes without a line break"
            yield Unreadable(line, None, unit[:_SHOWN_OF_A_LONG_LINE], reason)
        else:
            yield from filter(None, _records(line, unit, None, goes_on is not None))


def _units(
    stream: io.BufferedIOBase, goes_on: GoesOn | None, most: int | None = None
) -> Iterator[tuple[int, bytes] | None]:
    """`(line number, text)` of each line, or of the one document that spans lines; None wherever
    others may have their turn."""
    lines = _lines(stream, 1, goes_on)
    for number, head in lines:
        is_line = not is_json(head) or len(head) > MAX_UNIT_BYTES
        if is_line or (yield from _values(head, most))[1] is None:
            yield number, head
            break
        # This is either a document of several lines or NDJSON with a broken first line.
        rest = stream.read(MAX_UNIT_BYTES - len(head))
        document = head + b"\n" + rest
        if (yield from _values(document, most))[1] is None:
            yield number, document
            return
        yield number, head
        lines = _lines(joined(rest, stream), number + 1, goes_on)
        break
    yield from lines


def _lines(
    stream: io.BufferedIOBase, number: int, goes_on: GoesOn | None
) -> Iterator[tuple[int, bytes]]:
    """`(line number, text)` of the lines that are not blank, with those on which a record goes on;
    one too long comes cut."""
    while raw := stream.readline(MAX_UNIT_BYTES + 1):
        begin = number
        number += 1
        _pass_rest(stream, raw)
        if goes_on is not None and goes_on(raw, False) and not is_json(raw.lstrip()):
            raw, added = _with_following(stream, raw, goes_on)
            number += added
        line = raw.removeprefix(_BOM).strip()
        if line:
            yield begin, line if len(raw) <= MAX_UNIT_BYTES else raw


def _pass_rest(stream: io.BufferedIOBase, raw: bytes) -> None:
    """Pass over the rest of a line that is too long."""
    while not raw.endswith(b"\n") and (raw := stream.readline(MAX_UNIT_BYTES)):
        pass


def _with_following(stream: io.BufferedIOBase, raw: bytes, goes_on: GoesOn) -> tuple[bytes, int]:
    """A line with those on which its record goes on, and how many these are.

    A record that does not end takes all that follows: whoever wrote its text must not choose where
    the next record begins.
    """
    parts, size, is_open = [raw], len(raw), True
    added = 0
    while is_open and (raw := stream.readline(MAX_UNIT_BYTES)):
        is_open = goes_on(raw, is_open)
        added += raw.endswith(b"\n")
        if size <= MAX_UNIT_BYTES:
            parts.append(raw)
            size += len(raw)
    return b"".join(parts), added


def _values(text: bytes, most: int | None = None) -> Steps[tuple[list[bytes], str | None, bytes]]:
    """JSON values that follow each other in `text`, the error after them, and the remainder.

    The error says why the remainder is not a JSON value; `None, b""` if nothing remains.
    """
    try:
        _any_value.decode(text)
    except RecursionError:
        if (yield from whole_in_steps(text)):
            return [text], None, b""
        return [], "not valid JSON, and nested deeper than can be said of it", text
    except _JSON_ERRORS as error:
        reason = f"not valid JSON: {error}"
    else:
        return [text], None, b""
    values: list[bytes] = []
    try:
        whole = text.decode()
    except UnicodeDecodeError as error:
        return [], f"not valid UTF-8 at byte {error.start}", text
    begin = _past_space(whole, 0)
    while begin < len(whole):
        try:
            end = _text_decoder.raw_decode(whole, begin)[1]
        except (ValueError, RecursionError) as error:
            if values:
                reason = f"not valid JSON behind value {len(values)} of the line: {error}"
            return values, reason, whole[begin:].encode()
        values.append(whole[begin:end].encode())
        if most is not None and len(values) > most:
            raise too_many(most)
        begin = _past_space(whole, end)
        yield None
    return values, None, b""


def _is_one_value(text: bytes) -> bool:
    """Whether a text is one JSON value, as most are."""
    try:
        _any_value.decode(text)
    except _JSON_ERRORS:
        return False
    return True


def _past_space(text: str, begin: int) -> int:
    match = _SPACE.match(text, begin)
    assert match is not None
    return match.end()


def is_json(unit: bytes) -> bool:
    """Whether a text begins as a record of JSON does."""
    return unit.lstrip(_SEPARATOR)[:1] in (b"{", b"[")


def _records(
    line: int, unit: bytes, most: int | None, has_text: bool
) -> Iterator[Record | Unreadable | None]:
    if has_text and not is_json(unit):
        yield Record(line, None, unit)
        return
    is_text = unit[:1] not in (b"{", b"[")
    # A time in front begins as a number does.
    if is_text and (inside := text_inside(unit)) is not None:
        yield from _records(line, inside, most, False)
        return
    values, reason, rest = [unit], None, b""
    if is_text or not _is_one_value(unit):
        values, reason, rest = yield from _values(unit, most)
    if is_text:
        reason = "a record is a JSON object" if values or reason is None else reason
        yield Unreadable(line, None, unit, reason)
        return
    place = 0
    for value in values:
        is_object = value[:1] == b"{"
        items = None if is_object else (yield from items_in_steps(value, most))
        alone = items is None and len(values) == 1 and reason is None
        for raw in [value] if items is None else items:
            place += 1
            if raw.lstrip()[:1] == b"{":
                yield Record(line, None if alone else place, raw)
            else:
                yield Unreadable(line, None if alone else place, raw, "a record is a JSON object")
    if reason is not None:
        yield Unreadable(line, place + 1 if place else None, rest, reason)
