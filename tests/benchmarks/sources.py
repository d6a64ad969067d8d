"""Sources: what it costs to make an event of a record, beside decoding the same event, and beside a
bare decoding of the members that it is made of.

Within this process: a request over a socket costs so much more that the part of interest would
drown in it. Records and events are taken in turns, so that a busy machine slows both.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from gateway.clock import SystemClock
from gateway.event import Draft
from gateway.http.receivers.log_mapping import LogMapping
from gateway.ingest.decode import decode_event
from gateway.ingest.mapping.definition import SourceDefinition, paths_of
from gateway.ingest.mapping.path import Member
from gateway.ingest.otlp.protobuf import PROTOBUF
from gateway.ingest.reading import Record, read_records
from gateway.ingest.sources.catalog import Sources, make_source, shipped
from gateway.ingest.sources.row_mapping import RowMapping
from gateway.ingest.sources.source import ANYBODY, Mapped
from gateway.scheduling.loop_work import LoopWork
from tests.benchmarks import protocol_bodies

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
# By source: members that its functions read.
_READ_BY_FUNCTIONS = {
    "cloudtrail": (
        "eventSource", "eventName", "eventType", "awsRegion", "recipientAccountId", "resources",
        "requestParameters", "responseElements", "serviceEventDetails", "additionalEventData",
        "summary",
    ),
    "github": (
        "actor", "actor_is_bot", "org", "org_id", "repo", "repo_id", "repository", "team", "user",
        "user_id", "business",
    ),
    "kubernetes": ("auditID", "stage", "sourceIPs", "requestURI"),
}  # fmt: skip


class _Work(NamedTuple):
    """What is done with each of some items."""

    do: Callable[[Any], object]
    items: Sequence[Any]


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

    bare = bare_decoder(_paths(source.definition)).decode
    return _compared(
        name,
        {
            "mapped": _Work(source.draft, records),
            "native": _Work(decode, events),
            "bare": _Work(bare, records),
        },
        seconds,
        rounds,
    )


def _paths(definition: SourceDefinition) -> set[tuple[str, ...]]:
    """Paths to the members of records that events are made of, as far as they lead through
    objects."""
    values = [*definition.members.values()]
    values += [value for target in definition.targets for value in target.members.values()]
    whole = [path for value in values for path in paths_of(value) if not path.in_item]
    whole += [target.each for target in definition.targets if target.each is not None]
    whole += [term.path for terms in definition.when for term in terms]
    found = {(name,) for name in _READ_BY_FUNCTIONS.get(definition.name, ())}
    for path in whole:
        names = []
        for step in path.steps:
            if not isinstance(step, Member):
                break
            names.append(step.name)
        found.add(tuple(names))
    return found


def bare_decoder(paths: Iterable[tuple[str, ...]]) -> msgspec.json.Decoder[Any]:
    """Decoder of the members at the paths alone: the least that reading them can cost."""
    tree: dict[str, Any] = {}
    whole = set(paths)
    for path in whole:
        if any(path[:end] in whole for end in range(1, len(path))):
            # A member that is read whole.
            continue
        inner = tree
        for name in path:
            inner = inner.setdefault(name, {})
    return msgspec.json.Decoder(_type_of(tree))


def _type_of(tree: dict[str, Any]) -> Any:
    if not tree:
        return Any
    fields = [
        (
            f"m{place}",
            _type_of(inner) | None if inner else Any,
            msgspec.field(name=name, default=None),
        )
        for place, (name, inner) in enumerate(sorted(tree.items()))
    ]
    return msgspec.defstruct("Members", fields)


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

    bare = bare_decoder(map(tuple, mapping.paths.values())).decode
    return _compared(
        "rows of a table",
        {
            "mapped": _Work(lambda row: mapping.draft("1", row), rows),
            "native": _Work(decode, events),
            "bare": _Work(bare, [row.encode() for row in rows]),
        },
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

    works = {"mapped": _Work(mapped, [body]), "native": _Work(decode, [events])}
    whole = _compared("OTLP as protobuf", works, seconds, rounds)
    each = {name: whole[name] / len(records) for name in ("mapped_us", "native_us")}
    return {**whole, **each, "least": 0.4}


def protocol_cost(shape: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Microseconds of a record in a body of HEC or bulk, and of the same event in the native
    form."""
    protocol, records = protocol_bodies.shapes(200)[shape]
    body = protocol.body_of(records, 0)
    events = [b"{" + one.draft.tail for one in protocol.mapped(body)]
    assert len(events) == len(records)

    def decode(bodies: list[bytes]) -> list[Draft]:
        return [decode_event(event, _NO_IDS) for event in bodies]

    works = {"mapped": _Work(protocol.mapped, [body]), "native": _Work(decode, [events])}
    whole = _compared(shape, works, seconds, rounds)
    return {**whole, **{name: whole[name] / len(records) for name in ("mapped_us", "native_us")}}


def _attributes(members: dict[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=text)) for key, text in members.items()]


def _result(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def _compared(name: str, works: dict[str, _Work], seconds: float, rounds: int) -> dict[str, Any]:
    """Medians of the works, in turns, and of the ratios of each turn."""
    costs: dict[str, list[float]] = {kind: [] for kind in works}
    for _ in range(rounds):
        for kind, work in works.items():
            costs[kind].append(_each(work.do, work.items, seconds))
    found = {
        "source": name,
        **{f"{kind}_us": median(each) for kind, each in costs.items()},
        "throughput_of_native": _ratio(costs["native"], costs["mapped"]),
    }
    if "bare" in costs:
        found["of_bare"] = _ratio(costs["mapped"], costs["bare"])
    return found


def _ratio(above: list[float], below: list[float]) -> float:
    return median(one / other for one, other in zip(above, below, strict=True))


def _each(work: Callable[[Any], object], items: Sequence[Any], seconds: float) -> float:
    done, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < seconds:
        for item in items:
            work(item)
        done += len(items)
    return passed / done * 1e6
