"""Whatever is sent becomes an event, a marked event or a refusal, and nothing stops.

The long form: `python -m tests.support.hostile_records 10000`.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest

from gateway.ingest.mapping import values
from gateway.ingest.sources.catalog import shipped, shipped_names
from gateway.ingest.sources.checking import Checking
from gateway.ingest.sources.lines import Line, native_lines
from gateway.ingest.sources.source import Mapped
from tests.support.examples import examples
from tests.support.exports import event_of
from tests.support.hostile_records import bodies, check, compiled
from tests.unit.ingest.sources.test_every_envelope import record_of


@pytest.mark.parametrize("name", shipped_names())
def test_hostile_records_become_events_marked_events_or_refusals(name: str) -> None:
    source, counts = compiled(name), Counter[str]()
    for seed, body in enumerate(bodies(name, [record_of(name)], examples(1_500, share=20), 7)):
        try:
            counts += check(source, body)
        except Exception as failure:
            failure.add_note(f"body {seed}: {body[:1_000]!r}")
            raise
    assert counts["refused"], "it was hostile"
    assert counts["events"] + counts["marked"], "but not only"


@pytest.mark.parametrize(
    "text",
    [
        b'{"Message":"\xff{}"}', b'{"Message":"\\ud800"}', b'{"awslogs":{"data":"\xed\xa0\x80"}}',
        b'{"kind":"\xffList","items":[{}]}', b'{"kind":"\\ud800List","items":[{}]}',
        b"9" * 5_000 + b" {}", b"{} " + b"9" * 5_000, b'{"a":1} {"a":' + b"9" * 5_000 + b"}",
    ],
)  # fmt: skip
def test_texts_that_are_none_and_numbers_without_end_are_refused(text: bytes) -> None:
    for name in ("cloudtrail", "kubernetes", "syslog"):
        assert set(check(compiled(name), text)) <= {"refused", "events", "marked"}


@pytest.mark.parametrize("depth", [900, 5_000])
def test_a_check_of_records_shows_deep_ones_as_far_as_events_go(depth: int) -> None:
    raw = b'{"uuid":"1","eventType":"a.b","x":' + b"[" * depth + b"]" * depth + b"}"
    checking = Checking(shipped("okta"))
    for found in compiled("okta").map(raw):
        checking.add(found)
    [(record, event)] = checking.report().examples
    assert record["uuid"] == event["id"] == "1"
    assert json.dumps(record).count("[") < 100


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_no_depth_fails_a_body(opening: bytes, closing: bytes) -> None:
    """Decoders and encoders stop at a depth that depends on who calls them."""
    record = b'{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"1","verb":"get","x":'
    native, source = native_lines(None), compiled("kubernetes")
    for depth in range(850, 1_010):
        deep = opening * depth + b"1" + closing * depth + b"}"
        [found] = source.map(record + deep)
        assert isinstance(found, Mapped), found
        assert found.marks
        [line] = native(b'{"category":"a","action":"b","data":' + deep)
        assert isinstance(line, Line), line


def test_what_is_no_address_is_not_remembered() -> None:
    before = values._address_of.cache_info().currsize
    for number in range(10):
        assert values.address(f"{number}" * 65) is None
    assert values._address_of.cache_info().currsize == before


def test_targets_are_made_of_so_many_items_of_a_list() -> None:
    record = {"eventType": "a.b", "uuid": "1", "published": 0}
    target = {"type": "User", "id": "u"}
    assert "targets" in event_of("okta", record | {"target": [{}] * 999 + [target]})
    assert "targets" not in event_of("okta", record | {"target": [{}] * 1_000 + [target]})
