"""A live stream's connection on a real socket: what is written past it, and what it says itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest

from gateway.access.policy.decision import View
from gateway.event import Event
from gateway.filters.scope import Scope
from gateway.http.connection.websocket_connection import WebSocketConnection
from gateway.http.connection.write_scheduler import WriteScheduler
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.stream_timings import StreamTimings
from gateway.streaming.live.subscription import State, Subscription
from gateway.wire.websocket_writer import PING, PONG, SUBPROTOCOLS, TEXT
from tests.support.extent import Extent
from tests.support.machine_time import patience

if TYPE_CHECKING:
    from tests.conftest import FakeClock

MakeEvent = Callable[..., Event]
EVERYTHING = View.of(Scope(category=("**",), reserved=False))
MASKED_PING = bytes((0x80 | PING, 0x80 | 4)) + bytes(4) + b"ping"


class Pair:
    """A stream that is live on one end of a connection, and a client that reads the other."""

    def __init__(self, hub: Hub, connection: WebSocketConnection, client: socket.socket) -> None:
        self.hub = hub
        self.connection = connection
        self.client = client
        interest = Interest(StreamQuery(Scope(), EVERYTHING), SUBPROTOCOLS["audit.v1"])
        self.subscription = Subscription(interest, connection, "key", hub.position)
        connection.serve(hub, self.subscription)

    async def frames(self, opcode: int) -> list[bytes]:
        """All frames that come, up to and with the first one of that kind."""
        data, found = b"", []
        loop = asyncio.get_running_loop()
        while True:
            data += await asyncio.wait_for(loop.sock_recv(self.client, 1 << 16), patience(30))
            while (parsed := server_frame(data)) is not None:
                kind, payload, data = parsed
                found.append(payload)
                if kind == opcode:
                    return found
                assert kind == TEXT, "what is between two frames is none"


def server_frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    size, head = (data[1], 2) if len(data) > 1 else (0, 2)
    if size >= 126:
        width = 2 if size == 126 else 8
        size, head = int.from_bytes(data[2 : 2 + width], "big"), 2 + width
    if len(data) < head + size:
        return None
    assert data[0] & 0x70 == 0, "this is no frame"
    return data[0] & 0x0F, data[head : head + size], data[head + size :]


@pytest.fixture
async def pair(clock: FakeClock) -> AsyncIterator[Pair]:
    loop = asyncio.get_running_loop()
    ours, client = socket.socketpair()
    for end in (ours, client):
        end.setblocking(False)
    hub = Hub(Extent(), clock, lambda subscription: None, StreamTimings())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.http.connection.stream_connection._KEEPALIVE", ())
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        connection = WebSocketConnection(
            transport, 1 << 20, WriteScheduler(lambda: False), WriteScheduler(lambda: False)
        )
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
    yield Pair(hub, connection, client)
    transport.abort()
    client.close()


async def test_a_pong_does_not_come_into_a_frame_of_which_a_part_is_out(
    pair: Pair, event: MakeEvent
) -> None:
    body = b'{"x":"' + b"x" * 200_000 + b'"}'
    events: list[Any] = [event(offset, json=body) for offset in range(1, 4)]
    assert pair.subscription.state is State.LIVE
    pair.hub.publish(events, 3)
    pair.hub.flush()
    assert 0 < pair.connection.unsent < 600_000, "a part is out"
    pair.connection.data_received(MASKED_PING)
    *before, pong = await pair.frames(PONG)
    assert pong == b"ping"
    assert len(before) <= 2, "it came ahead of what can wait"
