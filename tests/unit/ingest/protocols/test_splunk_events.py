"""Events of the HTTP Event Collector, and the codes of what is none."""

from __future__ import annotations

import pytest

from gateway.ingest.protocols.splunk_hec import events_of, events_of_lines, is_channel


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b'{"event":"a"}', 0),
        (b'{"event":0}', 0),
        (b'{"event":{"a":1},"fields":{"a":"b","c":["d",1]}}', 0),
        (b'{"a":1}', 12),
        (b"{}", 12),
        (b'{"event":null}', 13),
        (b'{"event":""}', 13),
        (b'{"event":" "}', 13),
        (b'{"event":"a","fields":{"a":{}}}', 15),
        (b'{"event":"a","fields":{"a":[[]]}}', 15),
        (b'{"event":"a","fields":"b"}', 15),
        (b'"text"', 6),
        (b'[{"event":"a"}]', 6),
        (b'{"event":', 6),
        (b"nothing", 6),
    ],
)
def test_every_event_has_the_code_that_splunk_gives_it(value: bytes, code: int) -> None:
    [found] = events_of(value)
    assert found.code == code
    assert bool(found.reason) == (code != 0)
    assert found.raw == value


def test_an_event_too_deep_to_be_looked_at_is_left_to_its_source() -> None:
    [found] = events_of(b'{"event":' * 2000 + b"1" + b"}" * 2000)
    assert found.code == 0


def test_lines_become_events_with_the_metadata_of_their_request() -> None:
    metadata = {"host": "h", "sourcetype": "s", "index": "i", "channel": "c"}
    found = [*events_of_lines(b'text "a"\r\n\n  {"a":1}\n{"a":1}x\n\xff', metadata)]
    assert [one.raw for one in found] == [
        b'{"host":"h","sourcetype":"s","event":' + event + b"}"
        for event in (b'"text \\"a\\""', b'{"a":1}', b'"{\\"a\\":1}x"', b'"\\\\xff"')
    ]
    assert {one.sourcetype for one in found} == {"s"}


def test_a_channel_is_a_guid() -> None:
    assert is_channel("FE0ECFAD-13D5-401B-847D-77833BD77131")
    for text in (
        "",
        "x",
        "fe0ecfad13d5401b847d77833bd77131",
        "fe0ecfad-13d5-401b-847d-77833bd7713g",
    ):
        assert not is_channel(text)
