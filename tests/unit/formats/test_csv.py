"""CSV: cells, columns, rows that others read back, and texts that are no formulas."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.event import Event
from gateway.formats.csv import COLUMNS, CsvOptions, csv_encoder, csv_head, parse_columns

EPOCH = "a" * 10


def native(**members: Any) -> bytes:
    base = {
        "cursor": f"{EPOCH}-{7:020d}", "recorded_at": "2026-01-01T00:00:00.000000Z", "id": "1",
        "time": "2026-01-01T00:00:00.000000Z", "tenant": "acme", "category": "auth",
        "action": "login", "outcome": "success", "severity": 1,
    }  # fmt: skip
    return json.dumps({**base, **members}, separators=(",", ":")).encode()


def read(text: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.decode(), newline=""), strict=True))


def cells(event: bytes, *columns: str, raw: bool = False) -> list[str]:
    [row] = read(csv_encoder(CsvOptions(columns, raw=raw))(event))
    return row


@pytest.mark.parametrize(
    ("data", "cell"),
    [
        ({"a": "x"}, "x"),
        ({"a": 1.50}, "1.5"),
        ({"a": -5}, "-5"),
        ({"a": True}, "true"),
        ({"a": None}, ""),
        ({}, ""),
        ({"a": ["x", 1, None, False]}, "x; 1; ; false"),
        ({"a": []}, ""),
        ({"a": [["x"], "y"]}, "x; y"),
        ({"a": {"b": [1]}}, '{"b":[1]}'),
        ({"a": [{"b": 1}, {"b": 2}]}, '{"b":1}; {"b":2}'),
        ({"a": "line\r\nline, \"quoted\""}, 'line\r\nline, "quoted"'),
    ],
)  # fmt: skip
def test_a_cell_is_a_text_a_number_as_it_stands_a_joined_list_or_json(
    data: dict[str, Any], cell: str
) -> None:
    assert cells(native(data=data), "data.a") == [cell]


def test_numbers_are_kept_digit_for_digit() -> None:
    event = native(data={"a": 0}).replace(b'"a":0', b'"a":1.10e400')
    assert cells(event, "data.a") == ["1.10e400"]


def test_paths_go_through_lists() -> None:
    event = native(targets=[{"urn": "a", "name": "A"}, {"urn": "b"}], data={"x": [{"y": 1}, 2]})
    assert cells(event, "targets.urn", "targets.name", "data.x.y", "data.x.z") == [
        "a; b", "A", "1", "",
    ]  # fmt: skip


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_a_text_that_a_spreadsheet_would_take_for_a_formula_does_not_begin_so(first: str) -> None:
    event = native(
        reason=f"{first}cmd|'/C calc'!A0", data={"a": [f"{first}1"], "n": -1}, actor={"id": first}
    )
    columns = ("reason", "data.a", "data.n", "actor.id")
    assert cells(event, *columns) == [
        f"'{first}cmd|'/C calc'!A0", f"'{first}1", "-1", f"'{first}",
    ]  # fmt: skip
    assert cells(event, *columns, raw=True) == [
        f"{first}cmd|'/C calc'!A0", f"{first}1", "-1", first,
    ]  # fmt: skip


def test_what_is_masked_is_three_stars_and_what_is_within_it_too() -> None:
    event = native(
        data={"a": "***"}, actor={"id": "***", "name": "Ann"}, masked=["actor.id", "data.a"]
    )
    assert cells(event, "data.a.b.c", "data.a", "actor.id", "actor.name", "data.b") == [
        "***", "***", "***", "Ann", "",
    ]  # fmt: skip
    assert cells(native(data={}, masked=["data"]), "data", "data.x") == ["***", "***"]


def test_what_is_dropped_is_three_stars_where_the_event_may_have_had_it() -> None:
    told: list[Event] = []

    def dropped(event: Event) -> frozenset[str]:
        told.append(event)
        return frozenset({"data.a"})

    encode = csv_encoder(CsvOptions(("data.a", "data.b")), dropped)
    assert read(encode(native(targets=[{"urn": "u"}, {"urn": "v"}]))) == [["***", ""]]
    assert read(encode(native(data={"a": 1, "b": 2}))) == [["1", "2"]]
    [event] = told
    assert (event.offset, event.tenant, event.severity, event.resources) == (7, "acme", 1, "u\nv")


def test_a_row_of_one_empty_cell_is_a_row() -> None:
    row = csv_encoder(CsvOptions(("reason",)))(native())
    assert row == b'""\r\n'


def test_the_names_come_first_behind_the_mark_of_utf_8_if_that_is_wished() -> None:
    assert csv_head(CsvOptions(("id", 'data.a"b'), bom=True)) == b'\xef\xbb\xbfid,"data.a""b"\r\n'
    assert csv_head(CsvOptions(("id",))) == b"id\r\n"


@pytest.mark.parametrize(
    ("named", "near"),
    [("tenent", "`tenant`"), ("actor.nam", "`actor.name`"), ("", "there are"), ("data..x", "")],
)
def test_a_column_that_events_do_not_have_is_refused_with_the_nearest(
    named: str, near: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_columns(f"id,{named}")
    assert refused.value.code == "unknown_column"
    assert near in refused.value.detail
    assert refused.value.members["parameter"] == "columns"


@pytest.mark.parametrize("named", ["id,id", ",".join(f"data.a{i}" for i in range(65))])
def test_columns_are_few_and_different(named: str) -> None:
    with pytest.raises(InvalidRequest, match="columns:"):
        parse_columns(named)


def test_all_members_of_events_are_columns() -> None:
    assert parse_columns(",".join((*COLUMNS, "data", "data.a b.c")))[-2:] == ("data", "data.a b.c")


_TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
)


def plainly(value: Any) -> str:
    """The cell of a value, worked out in another way."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        flat: list[Any] = []
        rest = [*value]
        while rest:
            first = rest.pop(0)
            if isinstance(first, list):
                rest = [*first, *rest]
            else:
                flat.append(first)
        return "; ".join(map(plainly, flat))
    return json.dumps(value, separators=(",", ":"))


@given(st.lists(_VALUES, min_size=1, max_size=4), st.booleans())
def test_what_is_written_is_read_back(values: list[Any], raw: bool) -> None:
    data = {f"m{number}": value for number, value in enumerate(values)}
    columns = tuple(f"data.{name}" for name in data)
    found = cells(native(data=data), *columns, raw=raw)
    for cell, value in zip(found, values, strict=True):
        expected = plainly(value)
        is_text = isinstance(value, str | list)
        if is_text and not raw and expected[:1] in set("=+-@\t\r") - {""}:
            expected = "'" + expected
        assert cell == expected
