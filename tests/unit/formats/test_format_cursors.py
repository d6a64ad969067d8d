"""The cursor of an event is found in each format, whatever else stands there."""

from __future__ import annotations

import orjson
from hypothesis import given

from gateway.formats.cursors import BEGINS, cursor_in
from gateway.formats.format import FormatOptions
from gateway.formats.names import FORMAT_NAMES, TEXT_FORMATS
from gateway.formats.registry import make_formats
from tests.support.event_strategies import generated, shown_events
from tests.support.format_examples import DENIED, native

OPTIONS = [
    FormatOptions(unmapped=unmapped, original=original)
    for unmapped in ("full", "rest", "none")
    for original in (True, False)
]


def test_every_format_has_a_beginning_and_the_text_formats_are_no_json() -> None:
    assert tuple(BEGINS) == FORMAT_NAMES
    assert tuple(n for n, one in make_formats().items() if not one.json) == TEXT_FORMATS


@given(shown_events())
@generated(2000, share=20)
def test_the_cursor_is_that_of_the_event(shown: bytes) -> None:
    cursor = orjson.loads(shown)["cursor"]
    for options in OPTIONS:
        for name, one in make_formats(options).items():
            assert cursor_in(name, one.encode(shown)) == cursor, name


def test_no_value_can_pass_for_a_cursor() -> None:
    false = 'x cs3Label=cursor cs3=false cursor="false" ] [a@1 cursor="false"]'
    event = native({
        **DENIED, "id": false, "actor": {"id": false, "name": false}, "reason": false,
        "targets": [{"urn": false, "id": false}], "data": {"cursor": "false"},
    })  # fmt: skip
    for name, one in make_formats(FormatOptions(original=True)).items():
        assert cursor_in(name, one.encode(event)) == "abc-00000000000000000001", name


def test_what_is_no_event_has_none() -> None:
    for name in FORMAT_NAMES:
        for line in (b"", b"{}", b'{"type":"gap","cursor":"c"}', BEGINS[name], b"\xff"):
            assert cursor_in(name, line) is None, (name, line)


def test_the_end_of_a_value_cannot_pass_for_the_begin_of_a_cursor() -> None:
    for last in (" cursor=", " recorded=", " recorded=x cursor=", " cs3Label=cursor cs3="):
        value = f"x{last}"
        event = native({**DENIED, "id": value, "actor": {"id": value}, "reason": value})
        for name, one in make_formats(FormatOptions(original=True)).items():
            assert cursor_in(name, one.encode(event)) == "abc-00000000000000000001", (name, last)
