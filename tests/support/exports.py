"""Exports to test with: the samples, and real ones where they stand beside the checkout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.ingest.reading import Record, read_records

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


def records_of(path: Path) -> Iterator[Record]:
    """Every record of an export, all of which must be readable."""
    with path.open("rb") as stream:
        for found in read_records(stream):
            assert isinstance(found, Record), found
            yield found


def sample_records(name: str) -> list[dict[str, Any]]:
    """The decoded records of the sample of a format."""
    return [record.members for record in records_of(dict(SAMPLE_EXPORTS)[name])]
