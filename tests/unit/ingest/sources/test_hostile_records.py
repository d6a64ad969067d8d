"""Whatever is sent becomes an event, a marked event or a refusal, and nothing stops.

The long form: `python -m tests.support.hostile_records 10000`.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest

from gateway.ingest.sources.catalog import shipped, shipped_names
from gateway.ingest.sources.checking import Checking
from tests.support.examples import examples
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
