"""Exports to test with: the samples, and real ones where they stand beside the checkout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from gateway.ingest.reading import Record, read_records
from gateway.ingest.sources.catalog import make_source, shipped
from gateway.ingest.sources.source import Mapped, NotMapped, RecordSource

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "gateway" / "cli" / "samples"
REAL = ROOT.parent / "shared" / "data"

SAMPLE_EXPORTS = [
    ("native", SAMPLES / "sample.ndjson"),
    ("cloudtrail", SAMPLES / "cloudtrail.json"),
    ("kubernetes", SAMPLES / "kubernetes.ndjson"),
    ("github", SAMPLES / "github.json"),
    ("okta", SAMPLES / "okta.json"),
]
REAL_EXPORTS = [
    (name, path)
    for name, pattern in (
        ("cloudtrail", "cloudtrail/*.json.gz"),
        ("kubernetes", "kubernetes.ndjson"),
        ("github", "github.ndjson"),
        ("okta", "okta.ndjson"),
    )
    for path in sorted(REAL.glob(pattern))
]


def units_of(path: Path) -> Iterator[bytes]:
    """Every record or document of an export, all of which must be readable."""
    with path.open("rb") as stream:
        for found in read_records(stream):
            assert isinstance(found, Record), found
            yield found.raw


def mapped_of(name: str, path: Path) -> Iterator[Mapped | NotMapped]:
    """What becomes of the records of an export."""
    source = source_named(name)
    for raw in units_of(path):
        yield from source.map(raw)


@cache
def source_named(name: str, **options: str) -> RecordSource:
    return make_source(shipped(name), options)


def event_of(name: str, record: dict[str, Any], **options: str) -> dict[str, Any]:
    """Event of a record. Raises `Refused`."""
    found = source_named(name, **options).draft(msgspec.json.encode(record))
    event: dict[str, Any] = json.loads(b"{" + found.draft.tail)
    return event


def sample_records(name: str) -> list[dict[str, Any]]:
    """The decoded records of the sample of a source."""
    path = dict(SAMPLE_EXPORTS)[name]
    if name == "native":
        return [json.loads(raw) for raw in units_of(path)]
    return [json.loads(found.raw) for found in mapped_of(name, path)]
