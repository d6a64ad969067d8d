"""`GET /metrics`: formats, and what a scrape costs others."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from gateway_client import event, key_id
from gateways import Gateway, ShiftedClock, Start
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.http.metrics.metrics import Metrics
from gateway.oversight.detection import key_inventory
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

    def waits(metrics: Metrics, kind: str, *others: Any) -> tuple[bytes, str]:
        loop.call_soon_threadsafe(rendering.set)
        assert answered.wait(patience(30))
        return exposition(metrics, kind, *others)

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


@pytest.fixture
def polls_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and findings are counted all the time, and not every ten seconds."""
    monkeypatch.setattr(key_inventory, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(key_inventory, "_SHARE", 1.0)


async def become(gateway: Gateway, *, seconds: float = 5.0, **wanted: dict[str, float]) -> None:
    """Return once the metrics of these names have these values, by the value of their label."""
    deadline = time.monotonic() + patience(seconds)
    while True:
        now = await series(gateway)
        shown = {
            name: {
                of: value
                for line, value in now.items()
                for of in values
                if line.startswith(f"audit_gateway_{name}{{") and line.endswith(f'="{of}"}}')
            }
            for name, values in wanted.items()
        }
        if shown == wanted:
            return
        assert time.monotonic() < deadline, shown
        await asyncio.sleep(0.02)


@pytest.mark.usefixtures("polls_often")
async def test_keys_are_shown_by_state_by_when_they_end_and_as_unused(
    start: Start, shifted: ShiftedClock
) -> None:
    gateway = await start(shifted)
    states = {"active": 2.0, "draining": 0.0, "suspended": 0.0, "revoked": 0.0, "expired": 0.0}
    await become(gateway, keys=states, keys_expiring={"1d": 0, "7d": 0, "30d": 0})
    grant = {"actions": ["pull"], "categories": ["**"]}
    assert await gateway.metric("keys_rotation_due") == 0
    await gateway.mint(grant, expires_in="85d", rotate={"every": "30d"})
    lives = ("1h", "5d", "20d", "20d", "80d", "80d")
    rotated, suspended, revoked, *_ = [await gateway.mint(grant, expires_in=one) for one in lives]
    for key, path in ((rotated, "rotate"), (suspended, "suspend"), (revoked, "revoke")):
        answer = await gateway.post(f"/v1/keys/{key_id(key)}/{path}", key=gateway.admin)
        assert answer.status in (200, 201), answer.body
    states = {"active": 7.0, "draining": 1.0, "suspended": 1.0, "revoked": 1.0, "expired": 0.0}
    await become(gateway, keys=states, keys_expiring={"1d": 2, "7d": 2, "30d": 3})
    assert await gateway.metric("keys_unused") == 0
    shifted.shift = 31 * 86_400
    states = {"active": 5.0, "draining": 0.0, "suspended": 0.0, "revoked": 1.0, "expired": 4.0}
    await become(gateway, keys=states, keys_expiring={"1d": 0, "7d": 0, "30d": 0})
    assert await gateway.metric("keys_unused") == 5
    assert await gateway.metric("keys_rotation_due") == 1


@pytest.mark.usefixtures("polls_often")
async def test_findings_are_shown_as_open_by_their_signal_until_they_are_expected(
    gateway: Gateway,
) -> None:
    reader = await gateway.reader_key()
    for _ in range(5):
        assert (await gateway.get("/v1/keys", key=reader)).status == 403
    await become(gateway, findings_open={"denials": 1, "probing": 0})
    [finding] = (await gateway.get("/v1/findings", key=gateway.admin)).json()["findings"]
    answer = await gateway.post(f"/v1/findings/{finding['id']}/expected", key=gateway.admin)
    assert answer.status == 200, answer.body
    await become(gateway, findings_open={"denials": 0, "probing": 0})
    assert await gateway.metric('findings_found_total{signal="denials"}') == 5


async def test_durable_consumers_are_shown_by_name_and_key(gateway: Gateway) -> None:
    sent = await gateway.send_many(3)
    answer = await gateway.request("PUT", "/v1/consumers/siem", json={"from": "start"})
    assert answer.status == 201
    labels = f'{{consumer="siem",key="{key_id(gateway.user)}"}}'
    shown = await gateway.metrics()
    assert shown[f"consumer_lag_events{labels}"] >= len(sent)
    assert shown[f"consumer_lag_seconds{labels}"] >= 0
    assert shown[f"consumer_unacknowledged{labels}"] == 0
    assert shown[f"consumer_redelivered_total{labels}"] == 0
