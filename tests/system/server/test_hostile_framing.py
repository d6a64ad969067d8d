"""What stands around requests and the parts of bodies costs no memory and holds nobody up."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import struct
from typing import Any

import orjson
import pytest
from aiohttp import web
from gateway_client import event, eventually
from gateways import Gateway

from gateway.http.connection.request_connection import _SLICE, _Connection
from tests.support.machine_time import patience

LINE = b"X-A: " + b"a" * 15_000 + b"\r\n"
CHUNKED = b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(gateway: Gateway, *, key: bool = True) -> bytes:
    head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\n"
    return head + (b"Authorization: Bearer %b\r\n" % gateway.user.encode() if key else b"")


async def answer_to(gateway: Gateway, *pieces: bytes) -> bytes:
    """What comes back until the connection ends, also where it ends with a reset."""
    reader, writer = await gateway.connect()
    answer = b""
    async with asyncio.timeout(patience()):
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
            while data := await reader.read(1 << 16):
                answer += data
        except ConnectionError:
            pass
    return answer


@pytest.mark.parametrize("around", [LINE, b"1;" + b"x" * 15_000], ids=["trailers", "extensions"])
@pytest.mark.parametrize("key", [True, False])
async def test_what_stands_around_chunks_is_bounded_as_heads_are(
    gateway: Gateway, around: bytes, key: bool
) -> None:
    start = b"0\r\n" if around is LINE else b""
    pieces = [post(gateway, key=key) + CHUNKED + start, *[around] * 6]
    if around is not LINE:
        pieces[2:] = [b"x" * 15_000] * 5
    answer = await answer_to(gateway, *pieces)
    if key:
        assert answer == b"" or orjson.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 431
    connections = gateway.context.connections
    assert connections.refused_heads >= 1 or not key
    await eventually(lambda: connections.unfinished == 0, "all is given back")


async def test_a_refused_client_that_is_gone_already_is_no_error_of_ours(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As clients are that speak TLS to a port without it."""
    finish = web.RequestHandler.finish_response
    refused: list[_Connection] = []
    client = socket.create_connection((gateway.host, gateway.port))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def finished(self: _Connection, *answer: Any) -> Any:
        result = await finish(self, *answer)
        client.close()
        refused.append(self)
        return result

    monkeypatch.setattr(web.RequestHandler, "finish_response", finished)
    client.sendall(b"\x16\x03\x01\x02\x00\x01\r\n\r\n")
    await eventually(lambda: any(one.transport is None for one in refused), "it is closed")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_trailers_that_are_few_are_taken(gateway: Gateway) -> None:
    body = orjson.dumps(event(id="with-trailers"))
    chunks = b"%x\r\n%b\r\n0\r\nX-Checksum: abc\r\nX-More: def\r\n\r\n" % (len(body), body)
    head = post(gateway) + b"Connection: close\r\n" + CHUNKED
    assert b" 201 " in await answer_to(gateway, head + chunks)
    assert b" 201 " in await answer_to(gateway, head, *(bytes((one,)) for one in chunks))


async def test_a_body_of_tiny_chunks_is_parsed_in_turns_and_whole(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.http.connection.request_connection._SLOW_SECONDS", 0.0)
    body = orjson.dumps([event(id=str(n), data={"x": "y" * 100}) for n in range(100)])
    largest = 0
    receive = _Connection._receive

    def received(self: _Connection, data: bytes) -> None:
        nonlocal largest
        largest = max(largest, len(data))
        receive(self, data)

    monkeypatch.setattr(_Connection, "_receive", received)
    chunks = b"".join(b"1\r\n%c\r\n" % one for one in body) + b"0\r\n\r\n"
    head = post(gateway) + b"Connection: close\r\n" + CHUNKED
    reader, writer = await gateway.connect()
    writer.write(head + chunks)
    # Closed at once: nothing comes behind it, and it is answered.
    writer.write_eof()
    async with asyncio.timeout(patience()):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["accepted"] == 100
    assert 0 < largest <= _SLICE
    large = orjson.dumps([event(data={"x": "z" * 100_000}) for _ in range(20)])
    answer = await answer_to(
        gateway,
        post(gateway) + b"Connection: close\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(large) + large,
    )
    assert answer.startswith(b"HTTP/1.1 201 ")


async def test_a_body_of_a_declared_length_is_taken_as_it_arrives_and_what_follows_in_small_parts(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[bytes] = []
    receive = _Connection._receive

    def received(self: _Connection, data: bytes) -> None:
        parts.append(data)
        receive(self, data)

    monkeypatch.setattr(_Connection, "_receive", received)
    body = orjson.dumps([event(data={"x": "y" * 1000}) for _ in range(40)])
    head = post(gateway) + b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    behind = b"".join(b"1\r\n%c\r\n" % one for one in body) + b"0\r\n\r\n"
    last = post(gateway) + b"Connection: close\r\n" + CHUNKED + behind
    answer = await answer_to(gateway, head + b"\r\n" + body + head + b"\r\n" + body + last)
    assert answer.count(b"HTTP/1.1 201 ") == 3
    large = [part for part in parts if len(part) > _SLICE]
    assert large, "a body is no work for the parser"
    assert all(b"HTTP/1.1" not in part and b"\r\n" not in part for part in large)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01" + bytes(50_000),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(50_000),
        LINE * 3,
    ],
    ids=["TLS", "HTTP/2", "lines"],
)
async def test_what_is_not_http_is_forgotten_with_its_connection(
    gateway: Gateway, garbage: bytes
) -> None:
    """By reference counting: the collector looks at what is old only now and then."""

    def alive() -> int:
        return sum(isinstance(one, _Connection) for one in gc.get_objects())

    gc.collect()
    before = alive()
    gc.disable()
    try:
        for _ in range(5):
            await answer_to(gateway, garbage)
        open_now = gateway.context.connections
        await eventually(lambda: open_now.open <= 1, "they have ended")
        await eventually(lambda: alive() <= before + 1, "nothing is left of them")
    finally:
        gc.enable()


async def test_what_was_asked_before_too_large_a_head_is_answered_and_then_the_head(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = await answer_to(gateway, health * 20 + b"GET / HTTP/1.1\r\n" + LINE * 6)
    assert answer.count(b"HTTP/1.1 200 OK") == 20
    assert b" 431 " in answer
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []
