"""Traces: spans of requests and what is below them, of deliveries, and of nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import pytest
from failing import Broken
from gateway_client import event, key_id
from gateways import Gateway, Start
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.errors import InvalidSetting
from gateway.network import parse_network
from gateway.telemetry.span_sender import SpanSender
from gateway.tracing import spans as tracing
from tests.support.machine_time import eventually, patience
from tests.support.scripted_receiver import Reply, ScriptedReceiver, scripted_receiver

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
KEPT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
# What none of them may hold: parts of an event, of a query and of a filter.
SECRETS = ("only-in-data", "anna", "looked for", "order.made", "alpk_")


class SentSpan(NamedTuple):
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool


def spans_of(receiver: ScriptedReceiver) -> list[SentSpan]:
    found = []
    for request in receiver.received:
        if request.target != "/v1/traces":
            continue
        assert request.headers["content-type"] == "application/x-protobuf"
        for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
            about = {one.key: one.value.string_value for one in resource.resource.attributes}
            assert about["service.name"] == "audit-gateway"
            for scope in resource.scope_spans:
                found += [
                    SentSpan(
                        one.name, one.kind, one.trace_id.hex(), one.span_id.hex(),
                        one.parent_span_id.hex(),
                        {
                            a.key: a.value.string_value or a.value.int_value
                            for a in one.attributes
                        },
                        one.status.code == 2,
                    )
                    for one in scope.spans
                ]  # fmt: skip
    return found


async def sent(
    receiver: ScriptedReceiver, wanted: Callable[[list[SentSpan]], object]
) -> list[SentSpan]:
    await eventually(lambda: wanted(spans_of(receiver)), "the spans were sent")
    return spans_of(receiver)


@pytest.fixture
async def receiver() -> AsyncIterator[ScriptedReceiver]:
    async with scripted_receiver(lambda _: Reply(200)) as receiver:
        yield receiver


def settings(receiver: ScriptedReceiver, **more: Any) -> dict[str, Any]:
    return {"endpoint": f"http://127.0.0.1:{receiver.port}/v1/traces", **more}


@pytest.fixture
async def gateway(start: Start, receiver: ScriptedReceiver) -> Gateway:
    return await start(
        traces=settings(receiver),
        destinations={"allow_networks": (parse_network("127.0.0.0/8"),)},
    )


async def test_a_request_joins_the_trace_of_its_caller_and_what_it_does_is_below_it(
    gateway: Gateway, receiver: ScriptedReceiver
) -> None:
    one = event(
        id="a", category="orders", action="order.made", actor={"id": "anna"},
        data={"note": "only-in-data"},
    )  # fmt: skip
    posted = await gateway.post("/v1/events", json=one, headers=KEPT)
    assert posted.status == 201, posted.body
    path = "/v1/events?text=looked+for&category=orders"
    assert (await gateway.get(path, headers=KEPT)).status == 200
    assert (await gateway.get("/v1/counts", headers=KEPT)).status == 200
    spans = await sent(receiver, lambda found: any(s.name == "GET /v1/counts" for s in found))
    kept = [span for span in spans if span.trace == TRACE]
    requests = {span.name: span for span in kept if span.parent == PARENT}
    assert set(requests) == {"POST /v1/events", "GET /v1/events", "GET /v1/counts"}
    post = requests["POST /v1/events"]
    assert post.kind == 2
    assert post.attributes["http.request.method"] == "POST"
    assert post.attributes["http.route"] == "/v1/events"
    assert post.attributes["http.response.status_code"] == 201
    below = {(span.name, span.parent) for span in kept}
    assert ("append", post.id) in below
    for name in ("GET /v1/events", "GET /v1/counts"):
        assert ("look", requests[name].id) in below
    assert any(span.name == "store.read" for span in kept)
    assert not any(secret in repr(spans) for secret in SECRETS)


async def test_spans_are_of_requests_and_not_of_events(
    gateway: Gateway, receiver: ScriptedReceiver
) -> None:
    await gateway.post("/v1/events", json=[event(id=str(n)) for n in range(50)], headers=KEPT)
    spans = await sent(receiver, lambda found: any(s.trace == TRACE for s in found))
    assert len([span for span in spans if span.trace == TRACE]) <= 4


async def test_a_refusal_has_its_code_and_a_route_without_the_id_in_it(
    gateway: Gateway, receiver: ScriptedReceiver
) -> None:
    path = "/v1/events/none-such?around=900"
    said = (await gateway.get(path, headers=KEPT)).problem(400, "invalid_request")
    assert (await gateway.get("/nowhere", headers=KEPT)).status == 404
    spans = await sent(receiver, lambda found: any(s.name == "HTTP" for s in found))
    [refused] = [span for span in spans if span.name == "GET /v1/events/{id}"]
    assert refused.attributes["error.type"] == "invalid_request"
    assert refused.attributes["audit.request_id"] == said["request_id"]
    assert not refused.failed
    assert "none-such" not in repr(spans)
    assert "nowhere" not in repr(spans)


async def test_a_rotation_is_a_span_below_its_request(
    gateway: Gateway, receiver: ScriptedReceiver
) -> None:
    key = await gateway.reader_key()
    path = f"/v1/keys/{key_id(key)}/rotate"
    answer = await gateway.post(path, key=gateway.admin, json={"overlap": "1h"}, headers=KEPT)
    assert answer.status == 201, answer.body
    spans = await sent(receiver, lambda found: any(s.name == "key.rotate" for s in found))
    [rotated] = [span for span in spans if span.name == "key.rotate"]
    [request] = [span for span in spans if span.id == rotated.parent]
    assert request.name == "POST /v1/keys/{id}/rotate"
    assert key_id(key) not in repr(spans)


async def test_a_delivery_has_a_trace_that_its_receiver_can_join(
    gateway: Gateway, receiver: ScriptedReceiver
) -> None:
    body = {
        "name": "siem", "type": "http", "key": key_id(await gateway.reader_key()),
        "batch": {"max_wait": "1ms"}, "retry": {"min": "1ms", "max": "20ms"}, "plaintext": True,
        "settings": {"url": f"http://127.0.0.1:{receiver.port}/in"},
    }  # fmt: skip
    made = await gateway.post("/v1/destinations", key=gateway.admin, json=body)
    assert made.status == 201, made.body
    await gateway.send(event(id="a", category="auth"), event(id="b", category="auth"))
    spans = await sent(receiver, lambda found: any(s.name == "deliver" for s in found))
    delivered = next(span for span in spans if span.name == "deliver")
    [request] = [one for one in receiver.received if one.target == "/in"]
    assert request.headers["traceparent"].startswith(f"00-{delivered.trace}-{delivered.id}-")
    assert (delivered.kind, delivered.parent) == (3, "")
    assert delivered.attributes == {
        "audit.destination.type": "http", "audit.events": 2, "audit.result": "success",
    }  # fmt: skip


async def test_the_share_of_traces_is_that_of_the_settings_where_the_caller_decides_nothing(
    start: Start, receiver: ScriptedReceiver
) -> None:
    gateway = await start(traces=settings(receiver, sample=0))
    for _ in range(20):
        await gateway.get("/v1/events")
    await gateway.get("/v1/events", headers=KEPT)
    spans = await sent(receiver, bool)
    assert {span.trace for span in spans} == {TRACE}
    unsampled = f"00-{TRACE[::-1]}-{PARENT}-00"
    await gateway.get("/v1/events", headers={"traceparent": unsampled})
    await gateway.get("/v1/events", headers=KEPT)
    spans = await sent(receiver, lambda found: len(found) >= 4)
    assert {span.trace for span in spans} == {TRACE}


async def test_a_receiver_that_hangs_holds_up_neither_requests_nor_the_end(
    start: Start, receiver: ScriptedReceiver
) -> None:
    receiver.script.extend([receiver.hang] * 10)
    gateway = await start(traces=settings(receiver))
    await gateway.get("/v1/events")
    await eventually(lambda: receiver.received, "it has a request that it does not answer")
    for _ in range(5):
        assert (await gateway.get("/v1/events")).status == 200
    # The gateway ends with the test, within the time of any other.


async def test_spans_wait_for_a_receiver_that_is_away_and_the_queue_is_bounded(
    gateway: Gateway, receiver: ScriptedReceiver
) -> None:
    sender: SpanSender[int] = SpanSender(
        f"http://127.0.0.1:{receiver.port}/v1/traces",
        lambda spans: b"%d," % len(spans),
        gateway.context.clock,
    )
    for number in range(5000):
        sender.put(number)
    assert sender.dropped == 904
    receiver.received.clear()
    receiver.script.append(Reply(503))
    assert not await sender.send()
    assert await sender.send()
    receiver.script.append(Reply(400))
    assert not await sender.send()
    assert sender.dropped == 904 + 512
    async with asyncio.timeout(patience()):
        await sender.close()
    numbers = [one for one in receiver.bodies if one.startswith(b"32,")]
    assert sum(sum(map(int, one.rstrip(b",").split(b","))) for one in numbers) == 4096 + 512


async def test_spans_are_sent_on_after_a_failure_of_their_task(
    start: Start, receiver: ScriptedReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(monkeypatch)
    gateway = await start(traces=settings(receiver))
    broken.once("traces")
    await eventually(lambda: gateway.context.tasks.errors["traces"] == 1, "it has failed")
    await gateway.get("/v1/events", headers=KEPT)
    await sent(receiver, lambda found: any(span.trace == TRACE for span in found))


async def test_without_an_endpoint_nothing_is_traced(gateway: Gateway, start: Start) -> None:
    # The one that has an endpoint is the one of this process until it ends.
    assert tracing.begin("any", "server") is not tracing.NO_SPAN
    tracing.install(None)
    assert tracing.begin("any", "server") is tracing.NO_SPAN
    assert tracing.within("any") is tracing.NO_SPAN
    assert tracing.headers() == {}


def test_the_program_loads_the_library_where_traces_are_wanted_only() -> None:
    loads = (
        "import sys, gateway.runtime.compose, gateway.cli.main, gateway.cli.serve\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    said = subprocess.run(
        [sys.executable, "-c", loads], capture_output=True, text=True, check=True
    ).stdout
    assert said == "[]\n"


async def test_a_start_without_the_library_names_the_package(
    start: Start, receiver: ScriptedReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gateway.telemetry.otel", None)
    with pytest.raises(InvalidSetting, match=r"audit-gateway\[otel\]"):
        await start(traces=settings(receiver))
