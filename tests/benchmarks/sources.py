"""Sources: what it costs to make an event of a record, beside decoding the same event.

Within this process: a request over a socket costs so much more that the part of interest would
drown in it. Records and events are taken in turns, so that a busy machine slows both.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from gateway.ingest.decode import decode_event
from gateway.ingest.reading import Record, read_records
from gateway.ingest.sources.catalog import make_source, shipped
from gateway.ingest.sources.row_mapping import RowMapping
from gateway.ingest.sources.source import Mapped

_SAMPLES = Path(__file__).parents[2] / "gateway" / "cli" / "samples"
SAMPLES = {
    "cloudtrail": "cloudtrail.json",
    "github": "github.json",
    "kubernetes": "kubernetes.ndjson",
    "okta": "okta.json",
}
_COLUMNS = {
    "time": "created_at", "category": "=app", "action": "verb", "outcome": "result",
    "actor.id": "user_id", "actor.name": "payload.user.name", "source.ip": "ip",
    "target.urn": "urn", "tenant": "org",
}  # fmt: skip
_NO_IDS = iter(())


def cost(name: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Microseconds of a record of a source and of the same event in the native form; medians."""
    source = make_source(shipped(name))
    with (_SAMPLES / SAMPLES[name]).open("rb") as stream:
        units = [unit.raw for unit in read_records(stream) if isinstance(unit, Record)]
    found = [one for unit in units for one in source.map(unit) if isinstance(one, Mapped)]
    records = [json.dumps(json.loads(one.raw), separators=(",", ":")).encode() for one in found]
    events = [b"{" + source.draft(record).draft.tail for record in records]

    def decode(event: bytes) -> None:
        decode_event(event, _NO_IDS, mapped=True)

    return _compared(name, (source.draft, records), (decode, events), seconds, rounds)


def row_cost(seconds: float, rounds: int) -> dict[str, Any]:
    """Microseconds of a row of a followed table, and of the same event in the native form."""
    mapping = RowMapping("public.audit", _COLUMNS)
    rows = [
        json.dumps(
            {
                "id": number, "created_at": "2026-01-31T12:00:00.123456+00:00",
                "verb": "user.update", "result": "success", "user_id": f"u-{number % 100}",
                "payload": {"user": {"name": "Ann"}, "note": "x" * 120}, "ip": "203.0.113.7",
                "urn": f"app:users/{number}", "org": "acme",
            },
            separators=(",", ":"),
        )
        for number in range(200)
    ]  # fmt: skip
    events = [b"{" + mapping.draft("1", row).tail for row in rows]

    def decode(event: bytes) -> None:
        decode_event(event, _NO_IDS, mapped=True)

    return _compared(
        "rows of a table",
        (lambda row: mapping.draft("1", row), rows),
        (decode, events),
        seconds,
        rounds,
    )


def _compared(
    name: str,
    mapped: tuple[Callable[[Any], object], Sequence[Any]],
    native: tuple[Callable[[Any], object], Sequence[Any]],
    seconds: float,
    rounds: int,
) -> dict[str, Any]:
    costs: dict[str, list[float]] = {"mapped": [], "native": []}
    for _ in range(rounds):
        costs["mapped"].append(_each(*mapped, seconds))
        costs["native"].append(_each(*native, seconds))
    return {
        "source": name,
        "mapped_us": median(costs["mapped"]),
        "native_us": median(costs["native"]),
        "throughput_of_native": median(
            native / mapped for mapped, native in zip(costs["mapped"], costs["native"], strict=True)
        ),
    }


def _each(work: Callable[[Any], object], items: Sequence[Any], seconds: float) -> float:
    done, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < seconds:
        for item in items:
            work(item)
        done += len(items)
    return passed / done * 1e6
