"""A running gateway, and streams through a proxy that fails."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import patience
from tests.system.clients.browser import Browser
from tests.system.clients.fault_proxy import Fault, FaultProxy
from tests.system.clients.hostile_events import (
    assert_exactly_once,
    hostile_events,
    last_event,
    ordinary_events,
)

# Short, so that the tests are: clients come back at once and hear something every second.
_SETTINGS = {
    "AUDIT_GATEWAY_STREAM__RETRY_MS": "100",
    "AUDIT_GATEWAY_STREAM__HEARTBEAT": "1s",
    "AUDIT_GATEWAY_STREAM__PING": "1s",
}


class Scene:
    """One tenant of a gateway, a key that may stream it, and the faulty way there.

    `proxy` is what the client connects to.
    """

    def __init__(self, gateway: GatewayProcess, faults: tuple[Fault, ...]) -> None:
        self.gateway = gateway
        self.tenant = f"t-{uuid.uuid4().hex[:12]}"
        self.key = gateway.make_key(
            {"actions": ["stream"], "categories": ["test"], "tenants": [self.tenant]}
        )
        self.proxy = FaultProxy(gateway.host, gateway.port, faults)
        self.sent: list[dict[str, Any]] = []

    def send(self, events: list[dict[str, Any]]) -> None:
        """Store events; they come back in the streams."""
        self.gateway.post(events, self.gateway.first_key)
        self.sent += events

    def send_hostile(self) -> None:
        """Events that are difficult to frame, two of 200 KB, between ordinary ones."""
        for name in ("first", "second"):
            self.send(hostile_events(self.tenant, name))
            self.send(ordinary_events(self.tenant, name, 20))

    async def send_live(self, after_connections: int) -> None:
        """Once the client has come back so often: the same again as they happen, and the last."""
        await self.proxy.connected(after_connections)
        for event in hostile_events(self.tenant, "live"):
            self.send([event])
        self.send([*ordinary_events(self.tenant, "live", 5), last_event(self.tenant)])

    def assert_exactly_once(self, received: list[str]) -> None:
        assert_exactly_once(received, self.sent)


MakeScene = Callable[..., AbstractAsyncContextManager[Scene]]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    with GatewayProcess(folder / "data", settings=_SETTINGS) as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests: a page shares nothing with those of others."""
    started = Browser()
    yield started
    started.close()


@pytest.fixture
def make_scene(gateway: GatewayProcess) -> MakeScene:
    """`async with make_scene(*faults) as scene`: bounded to 30 s."""

    @asynccontextmanager
    async def scene(*faults: Fault) -> AsyncIterator[Scene]:
        made = Scene(gateway, faults)
        async with asyncio.timeout(patience(30)), made.proxy:
            yield made

    return scene
