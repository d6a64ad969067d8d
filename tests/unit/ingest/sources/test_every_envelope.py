"""A record of each source gives the same event in a file, alone and in each envelope."""

from __future__ import annotations

import io
import itertools
import json
from typing import Any

from gateway.ingest.reading import Record, read_records, read_text
from gateway.ingest.sources.catalog import shipped, shipped_names
from gateway.ingest.sources.source import Mapped, NotMapped
from tests.support.cases import every
from tests.support.exports import sample_records, source_named
from tests.support.realistic_envelopes import ENVELOPES, LINES
from tests.unit.ingest.sources.test_vendor_outcomes import RECORDS

# What is a record of its source itself, and no envelope.
_RECORDS_THEMSELVES = {
    ("cloudevents", "CloudEvents"),
    ("cloudevents", "CloudEvents batch"),
    ("cloudevents", "CloudEvents base64"),
    # An Entra record of a diagnostic setting has its members under `properties`.
    ("entra", "Event Hub"),
    ("syslog", "syslog"),
    ("splunk_hec", "HEC"),
    ("splunk_hec", "HEC with text"),
}
# Sources of interfaces that take any object know no envelopes.
_SOURCES = [name for name in shipped_names() if shipped(name).when]
_CASES = [
    case
    for case in itertools.product(_SOURCES, [*ENVELOPES, *LINES])
    if case not in _RECORDS_THEMSELVES
]


def record_of(source: str) -> dict[str, Any]:
    return RECORDS.get(source) or sample_records(source)[0]


def text_of(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def mapped(source: str, raw: bytes) -> list[Mapped | NotMapped]:
    return list(source_named(source).map(raw))


@every(_CASES)
def test_a_record_gives_one_event_alone_in_a_file_in_a_body_and_in_each_envelope(
    case: tuple[str, str],
) -> None:
    source, name = case
    record = record_of(source)
    text = text_of(record)
    alone = source_named(source).draft(text.encode()).draft
    wrapped = LINES[name](text) if name in LINES else text_of(ENVELOPES[name](record))
    lines = f"{wrapped}\n{wrapped}\n".encode()
    found = list(
        itertools.chain(
            mapped(source, wrapped.encode()),
            *(mapped(source, _raw_of(unit)) for unit in read_records(io.BytesIO(lines))),
            *(mapped(source, _raw_of(unit)) for unit in filter(None, read_text(lines, 10))),
        )
    )
    assert len(found) == 5
    for one in found:
        assert isinstance(one, Mapped), one
        assert one.draft == alone


@every(_CASES)
def test_no_envelope_around_something_else_is_an_event(case: tuple[str, str]) -> None:
    source, name = case
    if name in LINES or (source == "syslog" and name == "HEC with text"):
        return
    for other in ({"hello": 1}, {"message": "hello"}, {}):
        for found in mapped(source, text_of(ENVELOPES[name](other)).encode()):
            assert isinstance(found, NotMapped), found
            assert not found.skipped


def _raw_of(unit: object) -> bytes:
    assert isinstance(unit, Record), unit
    return unit.raw
