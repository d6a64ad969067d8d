"""Sources: what it costs to make an event of a record, beside decoding the same event.

Within this process: a request over a socket costs so much more that the part of interest would
drown in it. Records and events are taken in turns, so that a busy machine slows both.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from gateway.clock import SystemClock
from gateway.http.receivers.log_mapping import LogMapping
from gateway.ingest.decode import decode_event
from gateway.ingest.otlp.protobuf import PROTOBUF
from gateway.ingest.reading import Record, read_records
from gateway.ingest.sources.catalog import Sources, make_source, shipped
from gateway.ingest.sources.row_mapping import RowMapping
from gateway.ingest.sources.source import ANYBODY, Mapped
from gateway.scheduling.loop_work import LoopWork

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


def otlp_cost(seconds: float, rounds: int) -> dict[str, Any]:
    """Microseconds of a log record of a request in protobuf, and of the same event in the native
    form."""
    records = [
        LogRecord(
            time_unix_nano=1_767_225_600_123_456_789 + number,
            observed_time_unix_nano=1_767_225_600_123_456_789 + number,
            severity_number=9, severity_text="INFO", event_name="user.login",
            body=AnyValue(string_value="user ann logged in"),
            trace_id=b"\x0f" * 16, span_id=b"\x0f" * 8,
            attributes=_attributes({
                "audit.actor.id": "ann", "audit.outcome": "success", "user.id": f"u-{number}",
                "client.address": "203.0.113.7", "url.path": "/login", "session.id": f"s-{number}",
            }),
        )
        for number in range(200)
    ]  # fmt: skip
    resource = Resource(attributes=_attributes({"service.name": "sso", "host.name": "web-1"}))
    scope = ScopeLogs(scope=InstrumentationScope(name="app.audit"), log_records=records)
    logs = ResourceLogs(resource=resource, scope_logs=[scope])
    body = ExportLogsServiceRequest(resource_logs=[logs]).SerializeToString()
    slices = LoopWork(SystemClock()).slices("")
    mapping = LogMapping(Sources({}), ANYBODY, len(records))

    def mapped(body: bytes) -> list[Mapped]:
        found = [
            _result(mapping.map(sent, PROTOBUF, slices))
            for sent in PROTOBUF.split(body, len(records))
            if sent is not None
        ]
        return [one for [one] in found if isinstance(one, Mapped)]

    events = [b"{" + one.draft.tail for one in mapped(body)]
    assert len(events) == len(records)

    def decode(bodies: list[bytes]) -> None:
        for event in bodies:
            decode_event(event, _NO_IDS)

    whole = _compared("OTLP as protobuf", (mapped, [body]), (decode, [events]), seconds, rounds)
    each = {name: whole[name] / len(records) for name in ("mapped_us", "native_us")}
    return {**whole, **each, "least": 0.4}


def _attributes(members: dict[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=text)) for key, text in members.items()]


def _result(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


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
