"""Records that are too deep or too large, and items that are none."""

from __future__ import annotations

import json
from itertools import repeat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.importing.folder_sink import FolderSink
from gateway.event import MAX_EVENT_BYTES
from gateway.ingest.decode import decode_event
from gateway.ingest.marked import (
    decode_leniently,
    fitting,
    members_of,
    pruned,
    rejected_event,
    tenant_of,
)
from gateway.ingest.sources.lines import Line, lines_of
from gateway.ingest.strict_json import Refused
from tests.support.exports import source_named

HEAD = b'{"id":"e","category":"auth","action":"a","actor":{"id":"u"},"outcome":"denied"'


def deep(levels: int) -> bytes:
    return b'{"x":' * levels + b"1" + b"}" * levels


def data_of(item: bytes) -> Any:
    return json.loads(b"{" + decode_event(item, repeat("made")).tail)["data"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('a"\\{}[],:é', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text('a"\\{}[],:é', max_size=4), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text('a"\\{}[],:é', max_size=4), JSON, max_size=5), st.booleans())
def test_members_are_split_as_a_parser_would(value: dict[str, Any], spaced: bool) -> None:
    text = json.dumps(value, indent=1 if spaced else None).encode()
    assert {name: json.loads(one) for name, one, _ in members_of(text)} == value


@given(st.binary(max_size=40))
def test_nothing_that_is_sent_breaks_the_splitting(text: bytes) -> None:
    assert len(list(members_of(b"{" + text))) <= len(text) + 1
    found = decode_leniently([text, b"{" + text], repeat("made"))
    assert len(found.drafts) + len(found.refused) == 2
    rejected_event(text, "no event", id="r", tenant=tenant_of(text))


def test_what_fits_stays_as_it_is() -> None:
    item = HEAD + b',"data":' + deep(63) + b"}"
    assert fitting(item) == (item, False)


@pytest.mark.parametrize("levels", [64, 100, 5_000, 100_000])
def test_the_part_that_is_too_deep_is_cut_and_named(levels: int) -> None:
    item = HEAD + b',"data":{"kept":' + deep(62) + b',"cut":' + deep(levels) + b"}}"
    fits, is_cut = fitting(item)
    assert is_cut
    data = data_of(fits)
    assert set(data) == {"kept", "truncated"}
    assert data["truncated"] == {
        "reason": "nested deeper than 64 levels", "bytes": len(item), "cut": ["data.cut"],
    }  # fmt: skip


@given(st.lists(st.integers(0, 200_000), min_size=2, max_size=6))
def test_what_was_too_large_fits_whatever_its_members_are(sizes: list[int]) -> None:
    members = {f"m{place}": "x" * size for place, size in enumerate(sizes)}
    item = HEAD + b',"data":' + msgspec.json.encode(members) + b"}"
    fits, is_cut = fitting(item)
    assert is_cut == (len(item) > MAX_EVENT_BYTES)
    if is_cut:
        data = data_of(fits)
        cut = data.pop("truncated")["cut"]
        assert {*data, *(name.removeprefix("data.") for name in cut)} == set(members)
        assert all(data[name] == members[name] for name in data)


def test_a_member_that_stands_twice_is_refused_in_what_is_too_large_too() -> None:
    item = HEAD + b',"action":"b","data":{"x":"' + b"y" * 300_000 + b'"}}'
    with pytest.raises(Refused, match="twice"):
        fitting(item)


@pytest.mark.parametrize(
    "item",
    [
        b"[" * 100,
        b"[" + b",".join([deep(100)] * 2) + b"]",
        b'["category":"auth","action":"a","data":' + deep(100) + b"]",
        b'"' + b"x" * MAX_EVENT_BYTES + b'"',
    ],
)
def test_what_is_too_much_and_no_object_is_refused_as_that(item: bytes) -> None:
    [(_, _, refused)] = decode_leniently([item], repeat("made")).refused
    assert (refused.path, refused.reason) == ("", "an event is a JSON object")


def test_space_before_what_is_too_much_does_not_matter() -> None:
    item = b" \r\n" + HEAD + b',"data":' + deep(100) + b"}"
    assert decode_leniently([item], repeat("made")).cut.keys() == {0}


def test_an_item_with_long_strings_of_escapes_is_looked_at_once() -> None:
    item = HEAD + b',"data":{"x":"' + b'\\"{' * 150_000 + b'"}}'
    data = data_of(fitting(item)[0])
    assert data["truncated"]["cut"] == ["data.x"]


@pytest.mark.parametrize(
    ("item", "tenant"),
    [
        (b'{"tenant":"acme","x', "acme"),
        (b'{"tenant":"acme"', None),
        (b'{"x":1,"y', None),
        (b'{"tenant":"acme","tenant":"other"}', None),
        (b'{"tenant":"acme"}', "acme"),
        (b'{"x":1}', "default"),
        (b'{"tenant":"ACME"}', None),
        (b'{"tenant":"gateway"}', None),
        (b'{"tenant":1}', None),
        (b'{"tenant":"\\ud800"}', None),
        (b"[]", None),
        (b"", None),
    ],
)
def test_the_tenant_of_what_is_no_event_is_told_where_it_can_be_read(
    item: bytes, tenant: str | None
) -> None:
    assert tenant_of(item) == tenant


def test_an_import_keeps_records_that_are_too_deep_or_too_large(tmp_path: Path) -> None:
    record = {
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": "a-1", "stage": "Complete",
        "stageTimestamp": "2026-01-01T00:00:00.000000Z", "verb": "create", "level": "Request",
        "user": {"username": "u"}, "responseStatus": {"code": 201},
        "objectRef": {"resource": "pods", "namespace": "n", "name": "p"},
        "requestObject": {"large": "x" * 1_500_000}, "responseObject": json.loads(deep(200)),
    }  # fmt: skip
    raw = json.dumps(record).encode()
    [line] = lines_of(source_named("kubernetes"), None)(raw)
    assert isinstance(line, Line)
    sink = FolderSink(tmp_path, mapped=True)
    try:
        for accepted in (1, 0):
            result = sink.send([line.line])
            assert (result.accepted, result.refused) == (accepted, [])
        [event] = sink._runner.run(sink._log.read(0, 1, limit=1)).events
    finally:
        sink.close()
    assert line.marks == ("truncated",)
    members = event.members()
    assert (members["actor"]["name"], members["outcome"]) == ("u", "success")
    assert members["data"]["objectRef"]["name"] == "p"
    assert members["data"]["truncated"]["cut"] == ["data.requestObject", "data.responseObject"]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_what_is_deeper_is_null_and_all_else_stays(depth: int) -> None:
    text = b'{"a":[{"b":"]}"},"[",{"c":[1,[2]]}],"d":{"e":{}}}'
    expected = {
        1: {"a": None, "d": None},
        2: {"a": [None, "[", None], "d": {"e": None}},
        3: {"a": [{"b": "]}"}, "[", {"c": None}], "d": {"e": {}}},
    }
    assert json.loads(pruned(text, depth)) == expected[depth]
    assert pruned(text, 5) == text
