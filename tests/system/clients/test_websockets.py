"""websockets, a WebSocket library for Python."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Iterable
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.typing import Subprotocol

from tests.support.machine_time import patience, slowness
from tests.system.clients.conftest import MakeScene, Scene
from tests.system.clients.fault_proxy import Fault
from tests.system.clients.hostile_events import LAST_ACTION, ordinary_events


def bearer(key: str) -> Subprotocol:
    """The subprotocol by which a browser sends a key."""
    encoded = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
    return Subprotocol(f"base64url.bearer.authorization.audit.{encoded}")


async def receive(scene: Scene, subprotocol: str | None) -> list[str]:
    """All events up to the last one, over as many connections as it takes."""
    received: list[str] = []
    cursor = None
    url = scene.proxy.url.replace("http", "ws") + "/v1/stream"
    while True:
        begin = f"after={cursor}" if cursor else "from=start"
        try:
            async with connect(
                f"{url}?{begin}",
                subprotocols=[bearer(scene.key), Subprotocol(subprotocol)] if subprotocol else None,
                additional_headers=None if subprotocol else {"Authorization": f"token {scene.key}"},
                ping_interval=0.5,
                ping_timeout=0.5 * slowness(),
                close_timeout=0.1,
                proxy=None,
            ) as connection:
                assert connection.subprotocol == subprotocol
                async for frame in connection:
                    assert isinstance(frame, str)
                    message = json.loads(frame)
                    cursor = message.get("cursor", cursor)
                    for text, event in events_of(subprotocol, frame, message):
                        received.append(text)
                        cursor = event["cursor"]
                        if event["action"] == LAST_ACTION:
                            return received
        except (ConnectionClosed, InvalidMessage, OSError):
            pass


def events_of(
    subprotocol: str | None, frame: str, message: dict[str, Any]
) -> Iterable[tuple[str, dict[str, Any]]]:
    """The events of one frame, as text and decoded."""
    if subprotocol is None:
        assert "type" not in message
        return [(frame, message)]
    if message["type"] == "event":
        return [(json.dumps(message["event"]), message["event"])]
    if message["type"] == "events":
        return [(json.dumps(event), event) for event in message["events"]]
    assert message["type"] in ("bookmark", "caught-up"), message
    return []


@pytest.mark.parametrize("subprotocol", [None, "audit.v1", "audit.v1.batch"])
@pytest.mark.parametrize(
    "faults",
    [
        (Fault("reset", 4000), Fault("half-close", 100_000)),
        (Fault("half-close", 200), Fault("black hole", 150_000)),
        # In the second of the large frames that batches come in.
        (Fault("reset", 300_000), Fault("half-close", 150_000)),
    ],
)
async def test_websockets_gets_each_event_once_over_two_cuts(
    make_scene: MakeScene, subprotocol: str | None, faults: tuple[Fault, Fault]
) -> None:
    async with make_scene(*faults) as scene:
        scene.send_hostile()
        received, _ = await asyncio.gather(
            receive(scene, subprotocol), scene.send_live(after_connections=3)
        )
        scene.assert_exactly_once(received)
        assert scene.proxy.struck == 2


async def test_a_slow_and_fragmenting_network_changes_nothing(make_scene: MakeScene) -> None:
    async with make_scene(Fault(delay=0.001, piece=997)) as scene:
        scene.send_hostile()
        received, _ = await asyncio.gather(
            receive(scene, "audit.v1.batch"), scene.send_live(after_connections=1)
        )
        scene.assert_exactly_once(received)


async def test_only_the_real_subprotocol_is_echoed(make_scene: MakeScene) -> None:
    async with make_scene() as scene:
        url = scene.proxy.url.replace("http", "ws") + "/v1/stream"
        offered = [bearer(scene.key), Subprotocol("audit.v1"), Subprotocol("audit.v1.batch")]
        async with connect(url, subprotocols=offered, proxy=None) as connection:
            assert connection.response is not None
            assert connection.response.headers.get_all("Sec-WebSocket-Protocol") == ["audit.v1"]
            assert "Sec-WebSocket-Extensions" not in connection.response.headers


async def test_a_key_alone_is_no_subprotocol(make_scene: MakeScene) -> None:
    async with make_scene() as scene:
        url = scene.proxy.url.replace("http", "ws") + "/v1/stream"
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, subprotocols=[bearer(scene.key)], proxy=None)
        assert refused.value.response.status_code == 400
        assert json.loads(refused.value.response.body or b"")["code"] == "unsupported_subprotocol"


async def test_a_slow_reader_is_not_cut_by_its_own_keepalive(make_scene: MakeScene) -> None:
    """It is behind the whole time, so that the gateway always has more to write than it takes."""
    async with make_scene() as scene:
        for part in range(6):
            scene.send(ordinary_events(scene.tenant, f"part {part}", 500))
        small = socket.create_connection((scene.gateway.host, scene.gateway.port))
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        url = scene.gateway.url.replace("http", "ws") + "/v1/stream?from=start"
        began = asyncio.get_running_loop().time()
        async with connect(
            url,
            sock=small,
            additional_headers={"Authorization": f"Bearer {scene.key}"},
            ping_interval=0.2,
            ping_timeout=patience(1),
            max_queue=4,
            proxy=None,
        ) as connection:
            for _ in range(len(scene.sent)):
                await connection.recv()
                await asyncio.sleep(0.001)
            assert connection.latency > 0, "its pings were answered"
        assert asyncio.get_running_loop().time() - began > 1, "for longer than it waits for pongs"
