"""What a gateway gives out comes back as the same event."""

from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.format import FormatOptions
from gateway.formats.registry import make_formats
from gateway.ingest.sources.source import Mapped, NotMapped
from tests.support.event_strategies import generated, shown_events
from tests.support.exports import source_named
from tests.support.format_examples import EXAMPLES
from tests.support.stored_events import RECORDED_AT

CLOUDEVENTS = source_named("cloudevents")
ENCODE = make_formats(FormatOptions())["cloudevents"].encode
DECLARED = ("masked", "pseudonymized", "reduced")
SET = ("cursor", "recorded_at", *DECLARED)


def spelled(event: bytes) -> Any:
    """An event whose numbers are as they were written, without its place in a log."""
    decoded = json.loads(event, parse_int=str, parse_float=str)
    return {name: value for name, value in decoded.items() if name != "cursor"}


def back(native: bytes) -> Mapped | NotMapped:
    [found] = CLOUDEVENTS.map(ENCODE(native))
    return found


@given(shown_events())
@generated(400, share=8)
def test_every_cloudevent_of_ours_comes_back_as_the_event_that_it_was(native: bytes) -> None:
    found = back(native)
    assert isinstance(found, Mapped), found
    event, came = orjson.loads(native), orjson.loads(b"{" + found.draft.tail)
    if not any(name in event for name in DECLARED):
        assert spelled(b"{" + found.draft.stored(RECORDED_AT.encode())) == spelled(native)
    for name, value in event.items():
        if name not in SET and isinstance(value, str | int) and name not in ("data", "actor"):
            assert came.get(name, value) == value


def test_an_event_given_out_again_has_the_same_content() -> None:
    native = EXAMPLES["failed login"]
    elsewhere = native.replace(b'"cursor":"abc-', b'"cursor":"xyz-').replace(b".2000", b".3000")
    first, second = back(native), back(elsewhere)
    assert isinstance(first, Mapped)
    assert isinstance(second, Mapped)
    assert first.draft == second.draft


def test_the_gateways_own_records_do_not_come_back() -> None:
    found = back(EXAMPLES["gateway's own"])
    assert isinstance(found, NotMapped)
    assert "reserved" in found.reason


def test_a_cloudevent_around_something_else_is_mapped_by_its_attributes() -> None:
    whole: dict[str, Any] = json.loads(ENCODE(EXAMPLES["failed login"]))
    for left_out in ("cursor", "recorded_at", "id", "category"):
        changed = {**whole, "data": {**whole["data"]}}
        del changed["data"][left_out]
        [found] = CLOUDEVENTS.map(json.dumps(changed).encode())
        assert isinstance(found, Mapped)
        assert found.draft.id.startswith("e-1~")
        assert orjson.loads(b"{" + found.draft.tail)["data"] == changed


@given(st.sampled_from(['"tenant":"a"', '"id":"x"', '"data":{}']))
def test_a_member_that_is_there_twice_is_refused(twice: str) -> None:
    for begin in (
        '{"cursor":"c","recorded_at":"r",',
        '{"masked":[],"cursor":"c","recorded_at":"r",',
    ):
        native = (
            f'{begin}"id":"1","time":"2026-01-01T00:00:00Z","tenant":"a","category":"c",'
            f'"action":"a","data":{{}},{twice}}}'
        )
        event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": "?"}
        sent = json.dumps(event).replace('"?"', native)
        [found] = CLOUDEVENTS.map(sent.encode())
        assert isinstance(found, NotMapped)
        assert "twice" in found.reason
