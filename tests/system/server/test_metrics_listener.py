"""`metrics.port` and `metrics.require`: where `/metrics` is answered, and to whom."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import Any

import pytest
from gateway_client import Answer
from gateways import Gateway, Start

from gateway.errors import Unavailable
from gateway.http.metrics.metrics import Metrics
from tests.support.machine_time import patience

# An address of loopback that no other test listens on.
HOST = f"127.{1 + os.getpid() % 250}.{os.getpid() // 250 % 250}.7"
APART = {"host": HOST, "port": 9464}
OPS = {"actions": ["ops.read"], "categories": ["**"]}


async def scrape(gateway: Gateway, path: str = "/metrics", key: str | None = None) -> Answer:
    """A request to the listener for metrics."""
    apart = Gateway(f"http://{HOST}:9464", gateway.admin, gateway.session, gateway.context)
    return await apart.get(path, key=key)


async def test_metrics_with_a_port_of_their_own_are_answered_there_alone(start: Start) -> None:
    gateway = await start(metrics=APART)
    answer = await scrape(gateway)
    assert (answer.status, b"\naudit_gateway_streams " in answer.body) == (200, True)
    (await gateway.get("/metrics", key=None)).problem(404, "no_route")
    assert (await gateway.get("/healthz", key=None)).status == 200


async def test_the_listener_for_metrics_answers_nothing_else(start: Start) -> None:
    gateway = await start(metrics=APART)
    for path in ("/", "/healthz", "/openapi.json", "/v1/events", "/v1/stream", "/v1/keys"):
        (await scrape(gateway, path, gateway.admin)).problem(404, "no_route")


async def test_a_gateway_that_is_full_can_be_scraped(start: Start) -> None:
    gateway = await start(metrics=APART, server={"port": 0, "max_connections": 1})
    assert (await gateway.get("/healthz", key=None)).status == 200
    before = gateway.context.connections.open
    assert (await scrape(gateway)).status == 200
    assert gateway.context.connections.open == before == 1


@pytest.mark.parametrize("metrics", [{}, APART], ids=["main port", "own port"])
async def test_a_scrape_needs_a_key_with_ops_read_where_the_settings_say_so(
    start: Start, metrics: dict[str, Any]
) -> None:
    gateway = await start(metrics={**metrics, "require": "ops.read"})

    async def asked(key: str | None) -> Answer:
        if metrics:
            return await scrape(gateway, key=key)
        return await gateway.get("/metrics", key=key)

    key = await gateway.mint(OPS)
    (await asked(None)).problem(401, "missing_key")
    assert (await asked(gateway.user)).problem(403, "action_not_granted")["action"] == "ops.read"
    for allowed in (key, gateway.admin):
        answer = await asked(allowed)
        assert (answer.status, b"\naudit_gateway_streams " in answer.body) == (200, True)
    (await gateway.get("/v1/events", key=key)).problem(403, "action_not_granted")
    await gateway.revoke(key)
    (await asked(key)).problem(401, "key_revoked")


async def test_a_key_that_is_revoked_while_a_scrape_is_rendered_gets_none(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start(metrics={"require": "ops.read"})
    key = await gateway.mint(OPS)
    loop, rendering, revoked = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    exposition = Metrics.exposition

    def waits(metrics: Metrics, kind: str, *others: Any) -> tuple[bytes, str]:
        loop.call_soon_threadsafe(rendering.set)
        assert revoked.wait(patience(30))
        return exposition(metrics, kind, *others)

    monkeypatch.setattr(Metrics, "exposition", waits)
    scraping = asyncio.create_task(gateway.get("/metrics", key=key))
    await asyncio.wait_for(rendering.wait(), patience(30))
    await gateway.revoke(key)
    revoked.set()
    (await scraping).problem(401, "key_revoked")


async def test_a_denial_of_ops_read_wins(start: Start) -> None:
    gateway = await start(metrics={"require": "ops.read"})
    key = await gateway.mint(OPS, {**OPS, "effect": "deny", "categories": ["auth"]})
    (await gateway.get("/metrics", key=key)).problem(403, "denied_by_grant")


async def test_whoever_has_no_ops_read_grants_none(gateway: Gateway) -> None:
    admin = await gateway.mint({"actions": ["keys.admin"], "categories": ["**"]})
    key = {
        "name": "prometheus", "purpose": "scrapes", "owner": "ops", "expires_in": "1d",
        "grants": [OPS],
    }  # fmt: skip
    (await gateway.post("/v1/keys", key=admin, json=key)).problem(403, "exceeds_own_grants")
    both = await gateway.mint({"actions": ["keys.admin", "ops.read"], "categories": ["**"]})
    assert (await gateway.post("/v1/keys", key=both, json=key)).status == 201


async def test_an_address_for_metrics_that_is_taken_stops_the_start(start: Start) -> None:
    with socket.create_server((HOST, 9464)), pytest.raises(Unavailable) as caught:
        await start(metrics=APART)
    assert caught.value.code == "address_unusable"
    assert f"{HOST}:9464" in caught.value.detail
    assert "metrics.host and metrics.port" in caught.value.detail
