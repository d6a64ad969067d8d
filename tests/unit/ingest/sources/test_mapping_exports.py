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

from gateway.ingest.decode import decode_event
from gateway.ingest.sources.source import Mapped
from tests.support.exports import (
    REAL_EXPORTS,
    SAMPLE_EXPORTS,
    mapped_of,
    sample_records,
    source_named,
)

EXPORTS = [(name, path) for name, path in SAMPLE_EXPORTS + REAL_EXPORTS if name != "native"]
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
    mapped = 0
    for found in mapped_of(name, path):
        record = msgspec.json.decode(found.raw)
        if not isinstance(found, Mapped):
            assert is_foreign(name, record) or has_broken_time(record), found
            continue
        assert not is_foreign(name, record)
        draft = decode_event(b"{" + found.draft.tail, NO_IDS, mapped=True)
        assert draft == found.draft
        mapped += 1
    assert mapped > 0


@pytest.mark.parametrize(("name", "path"), EXPORTS, ids=lambda value: Path(value).name)
def test_the_record_stands_under_data_byte_for_byte(name: str, path: Path) -> None:
    for found in mapped_of(name, path):
        if isinstance(found, Mapped):
            kept = bytes(msgspec.json.decode(b"{" + found.draft.tail, type=_Data).data)
            mark = b',"time_unknown":true' if found.marks else b""
            assert kept == found.raw.replace(b"\n", b" ")[:-1] + mark + b"}"


class _Data(msgspec.Struct):
    data: msgspec.Raw


@pytest.mark.parametrize(("name", "path"), EXPORTS, ids=lambda value: Path(value).name)
def test_a_second_import_gives_the_same_events(name: str, path: Path) -> None:
    once, again = list(mapped_of(name, path)), list(mapped_of(name, path))
    assert once == again


@pytest.mark.parametrize(("name", "path"), EXPORTS[:4], ids=lambda value: Path(value).name)
def test_the_samples_map_whole_and_hold_reserved_addresses_only(name: str, path: Path) -> None:
    reserved = ("192.0.2.", "198.51.100.", "203.0.113.", "2001:db8::")
    for found in mapped_of(name, path):
        assert isinstance(found, Mapped), found
        event = msgspec.json.decode(b"{" + found.draft.tail)
        address = event.get("source", {}).get("ip")
        assert address is None or address.startswith(reserved)
        assert event["time"] < "2026-02"


def test_the_native_sample_shows_each_outcome_and_several_tenants() -> None:
    events = sample_records("native")
    assert len(events) >= 40
    assert {event["outcome"] for event in events} == {"success", "failure", "denied"}
    assert len({event["tenant"] for event in events}) >= 2


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


@pytest.mark.parametrize("name", ["cloudtrail", "github", "kubernetes", "okta"])
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
    for found in source_named(name).map(raw):
        if isinstance(found, Mapped):
            decode_event(b"{" + found.draft.tail, NO_IDS, mapped=True)
        else:
            assert found.reason


def key_in(value: Any, key: Any) -> bool:
    return key in value if isinstance(value, dict) else isinstance(key, int) and key < len(value)
