"""httpx-sse, a client library for Server-Sent Events in Python."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from httpx_sse import aconnect_sse

from tests.support.machine_time import slowness
from tests.system.clients.conftest import MakeScene, Scene
from tests.system.clients.fault_proxy import Fault, FaultProxy
from tests.system.clients.hostile_events import LAST_ACTION, hostile_events, last_event

# The gateway says something each second.
_QUIET_SECONDS = 2.5


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=_QUIET_SECONDS * slowness(), trust_env=False) as made:
        yield made


async def receive(client: httpx.AsyncClient, scene: Scene) -> list[str]:
    """All data up to the last event, over as many connections as it takes."""
    received: list[str] = []
    url = f"{scene.proxy.url}/v1/stream?from=start"
    headers = {"Authorization": f"Bearer {scene.key}"}
    while True:
        try:
            async with aconnect_sse(client, "GET", url, headers=headers) as source:
                async for event in source.aiter_sse():
                    if event.id:
                        headers["Last-Event-ID"] = event.id
                    if event.event != "message" or not event.data:
                        continue
                    received.append(event.data)
                    if json.loads(event.data)["action"] == LAST_ACTION:
                        return received
        except httpx.TransportError:
            pass


@pytest.mark.parametrize(
    "faults",
    [
        (Fault("reset", 4000), Fault("half-close", 100_000)),
        (Fault("half-close", 300), Fault("black hole", 150_000)),
        (Fault("black hole", b'"data":{"'), Fault("reset", b"\xf0\x9f")),
    ],
)
async def test_httpx_sse_gets_each_event_once_over_two_cuts(
    make_scene: MakeScene, client: httpx.AsyncClient, faults: tuple[Fault, Fault]
) -> None:
    async with make_scene(*faults) as scene:
        scene.send_hostile()
        received, _ = await asyncio.gather(
            receive(client, scene), scene.send_live(after_connections=3)
        )
        scene.assert_exactly_once(received)
        assert scene.proxy.struck == 2


async def test_a_slow_and_fragmenting_network_changes_nothing(
    make_scene: MakeScene, client: httpx.AsyncClient
) -> None:
    async with make_scene(Fault(delay=0.001, piece=997)) as scene:
        scene.send_hostile()
        received, _ = await asyncio.gather(
            receive(client, scene), scene.send_live(after_connections=1)
        )
        scene.assert_exactly_once(received)


async def test_a_cut_behind_any_byte_loses_and_repeats_nothing(
    make_scene: MakeScene, client: httpx.AsyncClient
) -> None:
    step = 23
    async with make_scene() as scene:
        chosen = [e for e in hostile_events(scene.tenant, "") if "injected" in e["id"]]
        scene.send([*chosen, last_event(scene.tenant)])
        after, struck = 1, True
        while struck:
            cut = FaultProxy(scene.gateway.host, scene.gateway.port, [Fault("half-close", after)])
            async with cut as scene.proxy:
                scene.assert_exactly_once(await receive(client, scene))
            struck = bool(cut.struck)
            after += step
        assert after > 1500
