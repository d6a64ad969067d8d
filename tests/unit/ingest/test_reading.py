"""Which records an export file holds, whatever its form, and what is wrong with the rest."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.errors import PayloadTooLarge
from gateway.ingest import reading
from gateway.ingest.reading import Record, Unreadable, read_records, read_text

BOM = b"\xef\xbb\xbf"


def read(content: bytes) -> list[Record | Unreadable]:
    return list(read_records(io.BytesIO(content)))


def members(content: bytes) -> list[dict[str, Any]]:
    found = read(content)
    assert all(isinstance(one, Record) for one in found), found
    return [json.loads(one.raw) for one in found if isinstance(one, Record)]


ONE, TWO = {"n": 1}, {"n": 2}


@pytest.mark.parametrize(
    "content",
    [
        b'{"n":1}\n{"n":2}\n',
        b'{"n":1}\n{"n":2}',
        b'\n\n{"n":1}\r\n  \r\n{"n":2}\r\n',
        b'[{"n":1},{"n":2}]',
        b'[\n {"n":1},\n {"n":2}\n]\n',
        b'{"n":1}{"n":2}',
        b'[{"n":1}]\n[{"n":2}]\n',
        b'{\n "n": 1\n}\n{\n "n": 2\n}\n',
    ],
)
@pytest.mark.parametrize("wrap", [bytes, gzip.compress, lambda content: BOM + content])
def test_each_form_of_an_export_gives_its_records(content: bytes, wrap: Any) -> None:
    assert members(wrap(content)) == [ONE, TWO]


@pytest.mark.parametrize("content", [b'{"n":1}', b'{\n  "n": 1\n}\n', BOM + b'{"n":1}\n'])
def test_a_single_object_is_one_record(content: bytes) -> None:
    assert members(content) == [ONE]


@pytest.mark.parametrize("content", [b"", b"\n \n", BOM, b"[]"])
def test_an_empty_export_holds_no_records(content: bytes) -> None:
    assert read(content) == []


def test_the_members_of_several_gzip_files_are_read_through() -> None:
    content = gzip.compress(b'{"n":1}\n') + gzip.compress(b'{"n":2}\n')
    assert members(content) == [ONE, TWO]


def test_records_know_their_line_and_their_place_within_it() -> None:
    content = b'{"n":1}\n\n[{"n":2},{"n":3}]\n{"n":4}{"n":5}\n'
    places = [(one.line, one.item) for one in read(content)]
    assert places == [(1, None), (3, 1), (3, 2), (4, 1), (4, 2)]


def test_a_record_is_kept_as_it_was_read() -> None:
    [record] = read(b'[ {"n": 1.00,\n  "s": "\\u00e4"} ]')
    assert record.raw == b'{"n": 1.00,\n  "s": "\\u00e4"}'


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b'{"n":', "JSON"),
        (b"hello", "JSON"),
        (b"17", "a record is a JSON object"),
        (b'"text"', "a record is a JSON object"),
        (b"[" * 5000 + b"]" * 5000, "JSON|deep"),
    ],
)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_broken_line_takes_no_other_with_it(broken: bytes, reason: str, position: int) -> None:
    lines = [b'{"n":1}', b'{"n":2}']
    lines.insert(position, broken)
    found = read(b"\n".join(lines) + b"\n")
    assert [json.loads(one.raw) for one in found if isinstance(one, Record)] == [ONE, TWO]
    [unreadable] = [one for one in found if isinstance(one, Unreadable)]
    assert unreadable.line == position + 1
    assert unreadable.raw == broken or broken.startswith(b"[")
    assert any(part in unreadable.reason for part in reason.split("|"))


def test_a_line_cut_off_in_the_middle_keeps_its_whole_values() -> None:
    record, rest = read(b'{"n":1}{"n":')
    assert isinstance(record, Record)
    assert json.loads(record.raw) == ONE
    assert isinstance(rest, Unreadable)
    assert (rest.line, rest.item, rest.raw) == (1, 2, b'{"n":')


def test_an_item_that_is_no_object_takes_no_other_with_it() -> None:
    found = read(b'[{"n":1},null,{"n":2}]')
    assert [type(one) for one in found] == [Record, Unreadable, Record]
    assert [one.item for one in found] == [1, 2, 3]


def test_gzip_cut_short_gives_what_came_before_and_says_so() -> None:
    lines = b"".join(b'{"n":%d}\n' % number for number in range(20_000))
    found = read(gzip.compress(lines)[:-2000])
    *records, last = found
    assert len(records) > 1000
    assert isinstance(last, Unreadable)
    assert "gzip" in last.reason


def test_utf_16_is_named_instead_of_refused_line_by_line() -> None:
    found = read('{"n":1}\n{"n":2}\n'.encode("utf-16"))
    assert [one.reason for one in found if isinstance(one, Unreadable)] == [
        "the file is UTF-16; convert it to UTF-8 first"
    ]


def test_a_line_without_end_is_skipped_and_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_UNIT_BYTES", 64)
    found = read(b'{"n":1}\n' + b"x" * 1000 + b'\n{"n":2}\n')
    assert [type(one) for one in found] == [Record, Unreadable, Record]
    assert (found[1].line, found[2].line) == (2, 3)


def test_a_broken_first_line_of_a_file_too_large_for_a_document_hides_no_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "MAX_UNIT_BYTES", 64)
    lines = [b'{"n":%d}' % number for number in range(100)]
    found = read(b"{\n" + b"\n".join(lines))
    assert [json.loads(one.raw)["n"] for one in found if isinstance(one, Record)] == list(
        range(100)
    )
    assert [one.line for one in found] == list(range(1, 102))


class Endless(io.RawIOBase):
    """NDJSON that is made while it is read."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        line = next(self._lines, b"")
        buffer[: len(line)] = line
        self.given += 1
        return len(line)


def test_ndjson_is_read_while_it_comes_and_never_held_whole() -> None:
    line = json.dumps({"text": "x" * 1000}).encode() + b"\n"
    source = Endless(line for _ in range(20_000))
    records = read_records(io.BufferedReader(source))
    next(records)
    assert source.given < 20
    tracemalloc.start()
    try:
        assert sum(1 for _ in records) == 19_999
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize("depth", [900, 1_500, 5_000, 20_000])
@pytest.mark.parametrize("form", [b'%s\n{"n":1}\n', b'[%s,\n{"n":1}]'])
def test_a_record_nested_deeper_than_decoders_go_is_read_whole(form: bytes, depth: int) -> None:
    deep = b'{"who":"bob","what":%s,"when":[1]}' % nested(depth)
    first, second = read(form % deep)
    assert isinstance(first, Record)
    assert first.raw == deep
    assert isinstance(second, Record)
    assert json.loads(second.raw) == ONE


def test_what_is_deep_and_no_json_is_no_record() -> None:
    for content in (b"[" * 50_000, b'{"a":' * 50_000):
        assert [type(one) for one in read(content)] == [Unreadable]


@pytest.mark.parametrize("text", [b"{} " * 11, b"[" + b"{}," * 10 + b"{}]"])
def test_values_of_a_text_in_memory_are_counted_before_all_are_made(text: bytes) -> None:
    assert len([*filter(None, read_text(b"{} " * 10, 10))]) == 10
    with pytest.raises(PayloadTooLarge, match="more than 10 events"):
        list(read_text(text, 10))


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b"[" + b"[" * 20_000 + b"]" * 20_000 + b"]",
        b"[" + b",".join([b'{"x":[' + b",".join([b"{}"] * 100) + b"]}"] * 200) + b",1]",
        b"{} " * 9_000,
    ],
    ids=["a deep object", "a deep list", "lists of objects", "values behind each other"],
)
def test_others_have_turns_while_what_is_made_for_it_is_read(text: bytes) -> None:
    found = list(read_text(text, 10_000))
    assert found.count(None) > 50
    assert len(found) > found.count(None)


def test_an_ordinary_list_is_read_at_once_also_where_its_objects_have_lists() -> None:
    items = [b'{"x":[{"a":1},{"b":[2,3]}]}'] * 5_000
    found = list(read_text(b"[" + b",".join(items) + b"]", 5_000))
    assert len(found) == 5_000
    assert None not in found
    with pytest.raises(PayloadTooLarge):
        list(read_text(b"[" + b",".join(items) + b"]", 4_999))
