"""Outlets as destinations make them, and receivers of each type that speaks HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
import orjson

from gateway.clock import SystemClock
from gateway.delivery.connect.addresses import AddressRule
from gateway.delivery.connect.http_client import ClientOptions, HttpClient
from gateway.delivery.connect.lookup import ConnectRule, Lookups
from gateway.delivery.outlets.elasticsearch import ELASTICSEARCH
from gateway.delivery.outlets.http import HTTP
from gateway.delivery.outlets.loki import LOKI
from gateway.delivery.outlets.otlp import OTLP
from gateway.delivery.outlets.outlet import EncodedEvent, Outlet
from gateway.delivery.outlets.outlet_plan import NATIVE, EventFormat, OutletKind, OutletPlan
from gateway.delivery.outlets.s3 import S3
from gateway.delivery.outlets.splunk_hec import SPLUNK_HEC
from tests.support.bucket import Bucket
from tests.support.outbound_events import outbound_event
from tests.support.scripted_receiver import Received, Reply, ScriptedReceiver, scripted_receiver

OWN = ConnectRule(AddressRule(configured=True))


class HttpCase(NamedTuple):
    """Type of destination that speaks HTTP: what it is given, and what its receiver answers when
    all is well. `any_success`: for this type the body of a 2xx does not matter. `fresh` makes a
    receiver that remembers. `signs`: the secret itself is never sent. `puts`: the client repeats
    its requests, as they may be, when a connection breaks."""

    kind: OutletKind
    settings: Mapping[str, Any]
    secrets: Mapping[str, Sequence[str]]
    good: Callable[[Received], Reply]
    any_success: bool = False
    fresh: Callable[[], Callable[[Received], Reply]] | None = None
    signs: bool = False
    puts: bool = False


def bulk_reply(received: Received) -> Reply:
    """Answer of Elasticsearch that has created all documents."""
    count = received.body.count(b"\n") // 2
    body = {"errors": False, "items": [{"create": {"status": 201}}] * count}
    return Reply(200, orjson.dumps(body), {"Content-Type": "application/json"})


TAKEN = Reply(200, b'{"text":"Success","code":0}')
SECRET = "S3cretOfTheReceiver"
HTTP_CASES: dict[str, HttpCase] = {
    "http": HttpCase(HTTP, {}, {"token": [SECRET]}, lambda _: Reply(204), any_success=True),
    "elasticsearch": HttpCase(ELASTICSEARCH, {}, {"api_key": [SECRET]}, bulk_reply),
    "s3": HttpCase(
        S3,
        {"bucket": "audit", "access_key": "AKID"},
        {"secret_key": [SECRET]},
        lambda _: Reply(),
        fresh=lambda: Bucket(SECRET).answer,
        signs=True,
        puts=True,
    ),
    "splunk_hec": HttpCase(SPLUNK_HEC, {}, {"token": [SECRET]}, lambda _: TAKEN),
    # As protobuf an empty answer is what the protocol prescribes.
    "otlp": HttpCase(OTLP, {"encoding": "json"}, {"token": [SECRET]}, lambda _: Reply(200, b"{}")),
    "loki": HttpCase(LOKI, {}, {"token": [SECRET]}, lambda _: Reply(204)),
}


def new_outlet(
    kind: OutletKind,
    settings: Mapping[str, Any],
    secrets: Mapping[str, Sequence[str]] = {},
    format: EventFormat = NATIVE,
    **parts: Any,
) -> Outlet:
    """Outlet with checked settings."""
    made = msgspec.convert(settings, kind.settings)
    kind.check(made, format)
    plan = {"name": "siem", "clock": SystemClock(), **parts}
    return kind.make(
        OutletPlan(settings=made, secrets=lambda name: secrets.get(name, ()), format=format, **plan)
    )


@asynccontextmanager
async def http_outlet(
    case: HttpCase, url: str, *, request_timeout: float = 30.0, **parts: Any
) -> AsyncIterator[Outlet]:
    """Outlet of a type, connected to a URL."""
    lookups = Lookups()
    options = ClientOptions(OWN, request_timeout=request_timeout, cookies=case.kind.cookies)
    transport = HttpClient(options, lookups, SystemClock())
    settings = {**case.settings, "url": url, **parts.pop("settings", {})}
    secrets = parts.pop("secrets", case.secrets)
    outlet = new_outlet(case.kind, settings, secrets, transport=transport, **parts)
    try:
        yield outlet
    finally:
        await outlet.close()
        lookups.close()


@asynccontextmanager
async def connected(case: HttpCase, **parts: Any) -> AsyncIterator[tuple[Outlet, ScriptedReceiver]]:
    """Outlet of a type, and the receiver to which it is connected."""
    async with (
        scripted_receiver(case.fresh() if case.fresh else case.good) as receiver,
        http_outlet(case, f"http://127.0.0.1:{receiver.port}", **parts) as outlet,
    ):
        yield outlet, receiver


def batch_of(
    outlet: Outlet, count: int = 3, *, first: int = 1, **members: Any
) -> list[EncodedEvent]:
    """Encoded events with these members."""
    events = [outbound_event(number, **members) for number in range(first, first + count)]
    return [EncodedEvent(event.json, outlet.encode(event)) for event in events]
