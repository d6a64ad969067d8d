"""Bodies of the protocols of log shippers, and the same events in the native form."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from gateway.formats.format import FormatOptions
from gateway.formats.registry import make_formats
from gateway.ingest.protocols.documents import Chosen, map_bulk, map_hec
from gateway.ingest.protocols.elasticsearch_bulk import items_of_bulk
from gateway.ingest.protocols.splunk_hec import events_of
from gateway.ingest.sources.catalog import Sources
from gateway.ingest.sources.source import ANYBODY, Mapped

_ACTION = b'{"create":{"_id":"%d"}}\n'


class Protocol(NamedTuple):
    """How a body of records is made, given the number of the first, and mapped in this process."""

    body_of: Callable[[list[bytes], int], bytes]
    mapped: Callable[[bytes], list[Mapped]]


def _bulk_body(documents: list[bytes], first: int) -> bytes:
    return b"".join(_ACTION % number + one + b"\n" for number, one in enumerate(documents, first))


def _hec_body(events: list[bytes], first: int) -> bytes:
    return b"".join(events)


def _bulk_mapped(body: bytes) -> list[Mapped]:
    own = tuple([one for name in ("ecs", "elasticsearch") if (one := _SOURCES.named(name))])
    chosen = Chosen(None, own, ANYBODY, ANYBODY, 100_000)
    made = (one for item in items_of_bulk(body) for one in map_bulk(item, chosen))
    return [one for one in made if isinstance(one, Mapped)]


def _hec_mapped(body: bytes) -> list[Mapped]:
    own = tuple([one for one in [_SOURCES.named("splunk_hec")] if one])
    chosen = Chosen(None, own, ANYBODY, ANYBODY, 100_000)
    made = (one for event in events_of(body) for one in map_hec(event, chosen))
    return [one for one in made if isinstance(one, Mapped)]


_SOURCES = Sources({})
BULK = Protocol(_bulk_body, _bulk_mapped)
HEC = Protocol(_hec_body, _hec_mapped)


def shapes(count: int, first: int = 0) -> dict[str, tuple[Protocol, list[bytes]]]:
    """By the name of their shape: records of a protocol, numbered from `first`."""
    numbers = range(first, first + count)
    own = [_given_out(number) for number in numbers]
    original = make_formats(FormatOptions(original=True))["ecs"].encode
    plain = make_formats(FormatOptions())["ecs"].encode
    return {
        "bulk, documents": (BULK, [*map(_document, numbers)]),
        "bulk, documents of ECS": (BULK, [*map(_ecs_document, numbers)]),
        "bulk, events of a gateway as ECS": (BULK, [*map(plain, own)]),
        "bulk, the same with their original": (BULK, [*map(original, own)]),
        "HEC, texts": (HEC, [_hec(number, _LINE % number) for number in numbers]),
        "HEC, objects": (HEC, [_hec(number, _login(number)) for number in numbers]),
        "HEC, events in the native form": (HEC, [_hec(n, _native(n)) for n in numbers]),
        "HEC, events of a gateway": (
            HEC,
            [
                b'{"time":1767225600.000,"sourcetype":"audit:gateway","event":%b}' % one
                for one in own
            ],
        ),
    }


_LINE = (
    "Jan 31 12:00:00 web-1 sshd[%d]: Accepted publickey for ann from 203.0.113.7 port 50122 ssh2"
)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _hec(number: int, event: Any) -> bytes:
    return _json(
        {
            "time": 1_767_225_600.25 + number, "host": "web-1", "source": "/var/log/app.log",
            "sourcetype": "app", "index": "main", "event": event,
        }
    )  # fmt: skip


def _login(number: int) -> dict[str, Any]:
    return {
        "action": "user.login", "user": f"u-{number}", "src_ip": "203.0.113.7", "status": "ok",
        "session": {"id": f"s-{number}", "device": "laptop"}, "message": "in", "pad": "x" * 80,
    }  # fmt: skip


def _native(number: int) -> dict[str, Any]:
    return {
        "id": f"e-{number}", "tenant": "acme", "category": "auth", "action": "user.login",
        "outcome": "success", "severity": 2, "actor": {"type": "user", "id": f"u-{number}"},
        "source": {"ip": "203.0.113.7"}, "targets": [{"urn": f"app:u/{number}", "type": "user"}],
        "data": {"session": f"s-{number}", "pad": "x" * 120},
    }  # fmt: skip


def _given_out(number: int) -> bytes:
    moment = "2026-01-31T12:00:00.123456Z"
    event = {"id": f"e-{number}", "time": moment, **_native(number)}
    return _json({"cursor": "AAAAAAAAAAAAAAAAAAAA", "recorded_at": moment, **event})


def _document(number: int) -> bytes:
    return _json(
        {
            "@timestamp": "2026-01-31T12:00:00.123456Z", "message": _LINE % number,
            "host": {"name": "web-1"}, "log": {"level": "info", "file": {"path": "/var/log/auth"}},
            "event": {"dataset": "sshd"}, "process": {"name": "sshd", "pid": number},
            "agent": {"type": "filebeat", "version": "8.19.0"},
        }
    )  # fmt: skip


def _ecs_document(number: int) -> bytes:
    return _json(
        {
            "@timestamp": "2026-01-31T12:00:00.123456Z", "ecs": {"version": "8.17.0"},
            "event": {"action": "logged-in", "dataset": "system.auth", "kind": "event",
                      "category": ["authentication"], "type": ["start"], "outcome": "success"},
            "user": {"id": f"u-{number}", "name": "ann"}, "source": {"ip": "203.0.113.7"},
            "host": {"name": "web-1"}, "message": _LINE % number,
        }
    )  # fmt: skip


SHAPES = tuple(shapes(1))
