"""`GET /metrics`: formats, and what a scrape costs others."""

from __future__ import annotations

import asyncio
import threading

import pytest
from gateway_client import event
from gateways import Gateway
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.http.metrics.metrics import Metrics
from tests.support.machine_time import patience

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# As Prometheus asks.
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, PLAIN),
        ("*/*", PLAIN),
        ("application/json", PLAIN),
        ("text/plain;version=0.0.4", PLAIN),
        ("application/openmetrics-text;q=0.1,text/plain;q=0.9", PLAIN),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.none", OPENMETRICS),
        (PROMETHEUS, OPENMETRICS),
    ],
)
async def test_a_scrape_has_the_format_that_it_accepts(
    gateway: Gateway, accept: str | None, kind: str
) -> None:
    headers = {} if accept is None else {"Accept": accept}
    answer = await gateway.get("/metrics", key=None, headers=headers)
    assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
    assert answer.headers["Vary"] == "Accept"
    assert b"\naudit_gateway_connections " in answer.body
    assert answer.body.endswith(b"# EOF\n") == (kind == OPENMETRICS)
    if kind == OPENMETRICS:
        assert list(text_string_to_metric_families(answer.body.decode()))


async def test_requests_are_answered_while_a_scrape_is_rendered(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, rendering, answered = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    exposition = Metrics.exposition

    def waits(metrics: Metrics, kind: str) -> tuple[bytes, str]:
        loop.call_soon_threadsafe(rendering.set)
        assert answered.wait(patience(30))
        return exposition(metrics, kind)

    monkeypatch.setattr(Metrics, "exposition", waits)
    scrape = asyncio.create_task(gateway.get("/metrics", key=None))
    await asyncio.wait_for(rendering.wait(), patience(30))
    assert (await gateway.get("/healthz", key=None)).status == 200
    assert not scrape.done()
    answered.set()
    assert (await scrape).status == 200


async def test_requests_are_counted_by_route_and_refusals_by_code(gateway: Gateway) -> None:
    before = await series(gateway)
    await gateway.send(event())
    assert (await gateway.get("/v1/events/none", key=gateway.admin)).status == 404
    assert (await gateway.get("/v1/nothing/here", key=None)).status == 404
    assert (await gateway.get("/v1/keys", key=None)).status == 401
    now = await series(gateway)
    grown = {name: now[name] - before[name] for name in now if now[name] > before[name]}
    routes = {name: count for name, count in grown.items() if "requests_total{" in name}
    assert routes == {
        'audit_gateway_requests_total{route="/v1/events",status="2xx"}': 1,
        'audit_gateway_requests_total{route="/v1/events/{id}",status="4xx"}': 1,
        'audit_gateway_requests_total{route="other",status="4xx"}': 1,
        'audit_gateway_requests_total{route="/v1/keys",status="4xx"}': 1,
        'audit_gateway_requests_total{route="/metrics",status="2xx"}': 1,
    }
    assert grown['audit_gateway_refusals_total{reason="missing_key"}'] == 1
    assert grown['audit_gateway_request_seconds_count{kind="ingest"}'] == 1
    assert grown['audit_gateway_request_seconds_count{kind="page"}'] == 1
    assert grown['audit_gateway_commit_seconds_count{store="log"}'] >= 1


async def test_events_sent_are_counted_by_their_result_and_refused_requests_apart(
    gateway: Gateway,
) -> None:
    before = await series(gateway)
    good, bad = event(id="known"), {"category": "auth"}
    await gateway.send(good)
    await gateway.send(good, event())
    lenient = "/v1/events?on_invalid=skip"
    for _ in range(2):
        answer = await gateway.post(lenient, key=gateway.admin, json=[good, event(), bad])
        assert answer.status == 200, answer.body
    (await gateway.post("/v1/events", key=gateway.admin, json=[event(), bad])).problem(
        422, "invalid_events"
    )
    image = {"Content-Type": "image/png"}
    answer = await gateway.post("/v1/events", key=gateway.admin, data=b"{}", headers=image)
    answer.problem(415, "unsupported_media_type")
    (await gateway.post("/v1/events", key=None, json=event())).problem(401, "missing_key")
    assert (await gateway.post("/v1/keys", key=gateway.admin, json={})).status == 400
    now = await series(gateway)
    name = 'audit_gateway_ingested_events_total{{result="{}"}}'.format
    grown = {one: now[name(one)] - before[name(one)] for one in ("accepted", "duplicate")}
    assert grown == {"accepted": 4, "duplicate": 4}
    assert now[name("invalid")] - before[name("invalid")] == 1, "the second time it was known"
    refused = 'audit_gateway_ingest_refused_total{result="invalid"}'
    assert now[refused] - before[refused] == 2


async def test_changes_and_reads_of_both_stores_are_timed(gateway: Gateway) -> None:
    before = await series(gateway)
    await gateway.reader_key()
    await gateway.send(event())
    assert (await gateway.get("/v1/events/none", key=gateway.admin)).status == 404
    now = await series(gateway)
    for name in ("commit_seconds", "store_read_seconds"):
        for store in ("log", "keys"):
            count = f'audit_gateway_{name}_count{{store="{store}"}}'
            assert now[count] > before[count], count


async def series(gateway: Gateway) -> dict[str, float]:
    text = (await gateway.get("/metrics", key=None)).body.decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
