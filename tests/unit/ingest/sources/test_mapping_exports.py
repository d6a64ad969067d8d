"""Whole exports become valid events, or are refused for a reason that is true."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.importing.command import FORMAT_NAMES
from gateway.ingest.decode import decode_event
from gateway.ingest.sources.identity import digest
from gateway.ingest.sources.lines import FORMATS, EventLines
from gateway.ingest.sources.native import Unmappable
from tests.support.exports import REAL_EXPORTS, SAMPLE_EXPORTS, records_of, sample_records

EXPORTS = SAMPLE_EXPORTS + REAL_EXPORTS
NO_IDS = iter(())


def is_foreign(name: str, record: dict[str, Any]) -> bool:
    """Whether a record in a collection for one service is another service's."""
    if name == "okta":
        return "." not in str(record.get("eventType") or record.get("eventtype"))
    if name == "github":
        return "action" not in record or {"source_type", "protoPayload"} & set(record) != set()
    return False


def has_broken_time(record: dict[str, Any]) -> bool:
    return record.get("published") == "redacted" or "00:00:00000" in str(record.get("created_at"))


@pytest.mark.parametrize(("name", "path"), EXPORTS, ids=lambda value: Path(value).name)
def test_each_record_is_a_valid_event_or_not_of_the_source(name: str, path: Path) -> None:
    lines = EventLines(name)
    mapped = 0
    for record in records_of(path):
        try:
            line = lines.line(record.members, record.raw)
        except Unmappable:
            assert is_foreign(name, record.members) or has_broken_time(record.members)
            continue
        assert not is_foreign(name, record.members)
        draft = decode_event(line, NO_IDS)
        assert draft.tenant == record.members.get("tenant", "default")
        mapped += 1
    assert mapped > 0


@pytest.mark.parametrize(("name", "path"), EXPORTS, ids=lambda value: Path(value).name)
def test_the_record_stands_under_data_byte_for_byte(name: str, path: Path) -> None:
    lines = EventLines(name)
    for record in records_of(path):
        try:
            line = lines.line(record.members, record.raw)
        except Unmappable:
            continue
        assert b"\n" not in line
        kept = line if name == "native" else msgspec.json.decode(line, type=_Data).data
        assert bytes(kept) == record.raw.replace(b"\n", b" ")


class _Data(msgspec.Struct):
    data: msgspec.Raw


@pytest.mark.parametrize(("name", "path"), EXPORTS, ids=lambda value: Path(value).name)
def test_only_equal_records_share_an_id_and_a_second_import_gives_the_same(
    name: str, path: Path
) -> None:
    def import_once() -> dict[str, set[str]]:
        lines = EventLines(name)
        contents: dict[str, set[str]] = {}
        for record in records_of(path):
            try:
                line = lines.line(record.members, record.raw)
            except Unmappable:
                continue
            event_id = decode_event(line, NO_IDS).id
            contents.setdefault(event_id, set()).add(digest(record.members))
        return contents

    once = import_once()
    assert all(len(contents) == 1 for contents in once.values())
    assert import_once() == once


@pytest.mark.parametrize(("name", "path"), SAMPLE_EXPORTS, ids=lambda value: Path(value).name)
def test_the_samples_map_whole_and_hold_reserved_addresses_only(name: str, path: Path) -> None:
    lines = EventLines(name)
    reserved = ("192.0.2.", "198.51.100.", "203.0.113.", "2001:db8::")
    for record in records_of(path):
        event = msgspec.json.decode(lines.line(record.members, record.raw))
        address = event.get("source", {}).get("ip")
        assert address is None or address.startswith(reserved)
        assert event["time"] < "2026-02"


def test_the_native_sample_shows_each_outcome_and_several_tenants() -> None:
    events = sample_records("native")
    assert len(events) >= 40
    assert {event["outcome"] for event in events} == {"success", "failure", "denied"}
    assert len({event["tenant"] for event in events}) >= 2


def test_the_command_offers_the_formats_that_exist() -> None:
    assert set(FORMAT_NAMES) == set(FORMATS)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=12)
    | st.sampled_from(["x" * 2000, "\x00\x1b[2J", "a/b", "..", "‮", "é" * 300]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every member and item within."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [one for key, inner in items for one in [(*path, key), *places(inner, (*path, key))]]


@pytest.mark.parametrize("name", [name for name in FORMAT_NAMES if name != "native"])
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_a_damaged_record_is_refused_or_still_a_valid_event(
    name: str, data: st.DataObject, seed: int
) -> None:
    choose = random.Random(seed)
    record = copy.deepcopy(choose.choice(sample_records(name)))
    for _ in range(choose.randint(1, 4)):
        *way, last = choose.choice(places(record))
        inner: Any = record
        for key in way:
            inner = inner[key] if isinstance(inner, dict | list) and key_in(inner, key) else {}
        if isinstance(inner, dict):
            inner[last] = data.draw(JSON)
    raw = msgspec.json.encode(record)
    try:
        line = EventLines(name).line(record, raw)
    except Unmappable:
        return
    decode_event(line, NO_IDS)


def key_in(value: Any, key: Any) -> bool:
    return key in value if isinstance(value, dict) else isinstance(key, int) and key < len(value)
