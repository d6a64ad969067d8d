"""What needs no key is bounded: connections, and the heads of requests."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import orjson
import pytest
from gateway_client import eventually
from gateways import Gateway, Start
from open_streams import Refused, Stream, open_stream

from gateway.errors import GatewayError
from gateway.http.connection.connections import (
    Connections,
    make_room,
    most_connections,
    raise_descriptors,
)
from tests.support.machine_time import patience

GET = b"GET /v1/events HTTP/1.1\r\nHost: a\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def answer_to(gateway: Gateway, *pieces: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
    with closing(writer):
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)
        try:
            return await asyncio.wait_for(reader.read(1 << 20), patience(20))
        except ConnectionError:
            return b""


@asynccontextmanager
async def idle(gateway: Gateway, count: int, sent: bytes = b"") -> AsyncIterator[None]:
    opened = []
    for _ in range(count):
        _, writer = await asyncio.open_connection(gateway.host, gateway.port)
        writer.write(sent)
        opened.append(writer)
    try:
        yield
    finally:
        for writer in opened:
            writer.close()


def code_of(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), orjson.loads(body)["code"]


async def test_a_head_that_is_too_large_is_431_before_it_is_whole(gateway: Gateway) -> None:
    lines = [b"X-%d: %b\r\n" % (n, b"a" * 15_000) for n in range(7)]
    for pieces in ([GET + b"".join(lines)], [GET, *lines]):
        assert code_of(await answer_to(gateway, *pieces)) == (431, "head_too_large")
    await eventually(lambda: gateway.context.connections.unfinished == 0, "all is given back")
    assert await gateway.metric("heads_refused_total") == 2


async def test_a_head_of_the_largest_size_is_taken(gateway: Gateway) -> None:
    lines = b"".join(b"X-%d: %b\r\n" % (n, b"a" * 15_000) for n in range(4))
    head = GET + lines + b"\r\n"
    assert code_of(await answer_to(gateway, head))[0] == 401
    assert code_of(await answer_to(gateway, head[:40_000], head[40_000:]))[0] == 401


async def test_bodies_and_pipelined_requests_do_not_count_as_heads(gateway: Gateway) -> None:
    await gateway.send(*[{"category": "a", "action": "b", "data": {"x": "y" * 900}}] * 500)
    many = HEALTH.replace(b"close", b"keep-alive") * 3_000 + HEALTH
    answers = await gateway.exchange(many)
    assert answers.count(b"HTTP/1.1 200") == 3_001
    assert gateway.context.connections.refused_heads == 0


async def test_unfinished_heads_are_bounded_in_total_and_small_ones_pass(start: Start) -> None:
    gateway = await start(server={"max_unfinished_heads": 1 << 20})
    large = GET + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 15_000) for n in range(3))
    async with idle(gateway, 40, large):
        connections = gateway.context.connections
        await eventually(lambda: connections.refused_heads >= 10, "the largest go")
        assert connections.unfinished <= 1 << 20
        status, code = code_of(await answer_to(gateway, GET, b"X-A: b\r\n", b"\r\n"))
        assert status == 401, code
    await eventually(lambda: connections.unfinished == 0, "all is given back")


async def test_beyond_the_connections_of_an_address_health_is_answered_and_nothing_else(
    start: Start,
) -> None:
    gateway = await start(server={"max_connections_per_address": 20})
    stream = await open_stream(gateway, "sse")
    async with idle(gateway, 60):
        await eventually(lambda: gateway.context.connections.refused > 0, "some are refused")
        assert b"200 OK" in await answer_to(gateway, HEALTH)
        answer = await answer_to(gateway, GET + b"\r\n")
        assert code_of(answer) == (503, "too_many_connections")
        assert b"Retry-After: 5" in answer
        await gateway.append({"category": "a", "action": "b"})
        assert await stream.take(1), "what is open is not touched"
    await eventually(lambda: gateway.context.connections.open < 20, "all is given back")
    assert code_of(await answer_to(gateway, GET + b"\r\n"))[0] == 401


async def test_all_connections_together_are_bounded(start: Start) -> None:
    gateway = await start(server={"max_connections": 20, "max_connections_per_address": 1000})
    async with idle(gateway, 60):
        await eventually(lambda: gateway.context.connections.refused >= 30, "the rest is refused")
        assert gateway.context.connections.open <= 20
        assert b"200 OK" in await answer_to(gateway, HEALTH)


async def test_behind_trusted_proxies_the_clients_are_counted(start: Start) -> None:
    gateway = await start(
        server={
            "max_connections_per_address": 2,
            "trusted_proxies": (ipaddress.ip_network("127.0.0.1/32"),),
        }
    )

    async def one(client: str) -> Stream:
        stream: Stream = await open_stream(gateway, "sse", headers={"X-Forwarded-For": client})
        return stream

    streams = [await one("192.0.2.1") for _ in range(2)]
    with pytest.raises(Refused) as refused:
        await one("192.0.2.1")
    refused.value.answer.problem(429, "too_many_connections")
    other = await one("192.0.2.2")
    connections = gateway.context.connections
    # Beside the one of requests.
    assert connections.open == 4, "streams keep their place"
    for stream in [*streams, other]:
        stream.close()
    await eventually(lambda: connections.open == 1, "all is given back")
    assert not connections._of_address


def test_connections_stay_below_the_limit_of_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert raise_descriptors() >= soft
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] == hard
    assert 0 < most_connections(1024) < 1024 - 64
    assert most_connections(100_000) > 98_000
    assert most_connections(10) == 1


class Silent:
    """A connection of a test."""

    def __init__(self) -> None:
        self.error: GatewayError | None = None
        self.aborted = False

    def refuse(self, error: GatewayError) -> None:
        self.error = error

    def abort(self) -> None:
        self.aborted = True


def test_of_too_many_unfinished_heads_the_largest_is_refused() -> None:
    connections = Connections(10, 10, 1000, 1000)
    small, large = Silent(), Silent()
    connections.head_grows(small, 200)
    connections.head_grows(large, 700)
    connections.head_grows(small, 310)
    assert small.error is None
    assert large.error is not None
    assert large.error.code == "too_many_unfinished_requests"
    assert connections.unfinished == 310


def test_the_reserve_makes_room_for_the_newest() -> None:
    connections = Connections(0, 0, 1, 1)
    peers = [Silent() for _ in range(40)]
    for peer in peers:
        assert connections.enter(peer, "192.0.2.1") is None
        leave = connections.enter_reserve(peer)
    # Also while none of them has ended yet: as many are left as there are places.
    assert [peer.aborted for peer in peers] == [True] * 8 + [False] * 32
    leave()


def test_an_ipv6_network_of_one_subscriber_counts_as_one_address() -> None:
    connections = Connections(10, 2, 1, 1)
    assert connections.enter(Silent(), "2001:db8::1")
    assert connections.enter(Silent(), "2001:db8::2")
    assert connections.enter(Silent(), "2001:db8::3") is None
    assert connections.enter(Silent(), "2001:db8:0:1::1")


def test_the_kernel_has_room_for_all_descriptors_from_the_start() -> None:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    before = int(re.search(r"FDSize:\s+(\d+)", status)[1])  # type: ignore[index]
    wanted = min(2 * before, raise_descriptors())
    made = set(os.listdir("/proc/self/fd"))
    make_room(wanted)
    # What nobody needs any more may be closed meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= len(made)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    assert int(re.search(r"FDSize:\s+(\d+)", status)[1]) >= wanted  # type: ignore[index]


async def test_who_sends_much_rests_while_many_send(gateway: Gateway) -> None:
    connections, resting = gateway.context.connections, []
    connections.crowded = lambda: True
    connections.when_idle = lambda call, within: resting.append(call)
    event = b'{"category":"a","action":"b","data":{"x":"%b"}}' % (b"y" * 9_000)
    body = b"[" + b",".join([event] * 100) + b"]"
    head = (
        b"POST /v1/events HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n"
        b"Content-Type: application/json\r\nAuthorization: Bearer %b\r\n\r\n"
        % (len(body), gateway.user.encode())
    )
    asked = asyncio.create_task(gateway.exchange(head + body))
    rests = 0
    while not asked.done():
        await asyncio.sleep(0)
        assert len(resting) <= 1
        if resting:
            rests += 1
            resting.pop()()
    assert (await asked).startswith(b"HTTP/1.1 201")
    assert rests >= 5
