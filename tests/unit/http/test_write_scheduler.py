"""Writing in turns: order, fairness and ends, on real sockets."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from gateway.http.connection.stream_connection import StreamConnection
from gateway.http.connection.websocket_connection import WebSocketConnection
from gateway.http.connection.write_scheduler import WriteScheduler
from gateway.wire.websocket_writer import PING, PONG, TEXT, frame
from tests.support.machine_time import patience

BUFFER = 65536
CHUNK = os.urandom(1 << 20)
Pair = tuple[StreamConnection, socket.socket]
Connect = Callable[..., Awaitable[Pair]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """A connection, and the socket of its peer."""
    scheduler = WriteScheduler(lambda: False)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        async def made(kind: type[StreamConnection] = StreamConnection) -> Pair:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
            theirs.setblocking(False)
            stack.callback(theirs.close)
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            stack.callback(lambda: transport.is_closing() or transport.abort())
            parse_scheduler = (
                [WriteScheduler(lambda: False)] if issubclass(kind, WebSocketConnection) else []
            )
            return kind(transport, BUFFER, scheduler, *parse_scheduler), theirs

        yield made


async def received(peer: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    got = bytearray()
    async with asyncio.timeout(patience(5)):
        while len(got) < size and (part := await loop.sock_recv(peer, 1 << 20)):
            got += part
    return bytes(got)


async def test_what_is_written_behind_something_large_comes_behind_it(connect: Connect) -> None:
    connection, peer = await connect()
    assert not connection.write(CHUNK)
    assert not connection.clear
    connection.write(b"small")
    connection.write(CHUNK[:5000])
    assert await received(peer, len(CHUNK) + 5005) == CHUNK + b"small" + CHUNK[:5000]
    await connection.drained()
    assert connection.clear
    assert connection.write(b"at once")
    assert connection.clear
    assert await received(peer, 7) == b"at once"


async def test_the_last_bytes_come_behind_everything_that_waits(connect: Connect) -> None:
    connection, peer = await connect()
    connection.write(CHUNK)
    connection.write(CHUNK)
    # In the middle of a chunk.
    first = await received(peer, 100_000)
    connection.finish(b"the end", 5)
    rest = await received(peer, 3 << 20)
    assert first + rest == CHUNK + CHUNK + b"the end"
    connection.write(b"never")
    assert await received(peer, 1) == b""


def ping(payload: bytes) -> bytes:
    """A ping as a client sends it, with a mask that changes nothing."""
    return bytes([0x80 | PING, 0x80 | len(payload), 0, 0, 0, 0]) + payload


async def test_a_ping_is_answered_between_two_frames_ahead_of_those_that_wait(
    connect: Connect,
) -> None:
    connection, peer = await connect(WebSocketConnection)
    message = frame(TEXT, b"x" * 1000)
    connection.write(message * 5000)
    connection.write(frame(TEXT, b"later"))
    peer.send(ping(b"first"))
    pong = frame(PONG, b"first")
    got = bytearray()
    while pong not in got:
        got += await received(peer, 1000)
    before = got.partition(pong)[0]
    assert before == message * (len(before) // len(message)), "it stands between two frames"
    assert len(before) < len(message) * 5000, "whoever reads slowly has it before it is too late"
    whole = len(message) * 5000 + len(pong) + len(frame(TEXT, b"later"))
    got += await received(peer, whole - len(got))
    assert bytes(got).replace(pong, b"") == message * 5000 + frame(TEXT, b"later")


async def test_of_pings_that_a_client_sends_without_reading_the_newest_is_answered(
    connect: Connect,
) -> None:
    connection, peer = await connect(WebSocketConnection)
    connection.write(frame(TEXT, b"x" * 1000) * 5000)
    held = connection.unsent
    connection.data_received(b"".join(ping(b"%03d" % number) for number in range(200)))
    assert connection.unsent == held + len(frame(PONG, b"199"))
    got = await received(peer, 5000 * len(frame(TEXT, b"x" * 1000)) + len(frame(PONG, b"199")))
    assert re.findall(rb"\x8a\x03[0-9]{3}", got) == [frame(PONG, b"199")]


async def test_drained_returns_when_the_peer_is_lost(connect: Connect) -> None:
    connection, peer = await connect()
    connection.write(CHUNK)
    await asyncio.sleep(0)
    waiting = asyncio.create_task(connection.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    peer.close()
    async with asyncio.timeout(patience(5)):
        await waiting
    assert connection.write(b"into the void")


async def test_readers_that_catch_up_write_one_piece_a_round_of_the_loop(
    connect: Connect,
) -> None:
    pairs = [await connect() for _ in range(20)]
    rounds = 0
    running = True

    def count() -> None:
        nonlocal rounds
        rounds += 1
        if running:
            asyncio.get_running_loop().call_soon(count)

    for connection, _ in pairs:
        connection.write(CHUNK)
    count()
    async with asyncio.timeout(patience(5)):
        got = await asyncio.gather(*(received(peer, len(CHUNK)) for _, peer in pairs))
    running = False
    assert set(got) == {CHUNK}
    # A piece is an eighth of a chunk.
    assert rounds >= 20 * 8


async def test_turns_come_in_the_order_of_asking_and_one_that_fails_stops_nobody() -> None:
    scheduler, seen = WriteScheduler(lambda: False), list[str]()
    failed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failed.append(context))

    def again() -> None:
        seen.append("again")
        if seen.count("again") < 3:
            scheduler.schedule(again)

    def fails() -> None:
        seen.append("fails")
        raise RuntimeError

    scheduler.schedule(again)
    scheduler.schedule(fails)
    scheduler.schedule(lambda: seen.append("last"))
    assert seen == []
    for _ in range(6):
        await asyncio.sleep(0)
    assert seen == ["again", "fails", "last", "again", "again"]
    assert len(failed) == 1
    scheduler.schedule(lambda: seen.append("later"))
    await asyncio.sleep(0)
    assert seen[-1] == "later"


async def test_turns_are_few_while_live_events_are_written() -> None:
    busy = True
    scheduler, seen = WriteScheduler(lambda: busy), 0
    fifth, sixth = asyncio.Event(), asyncio.Event()

    def again() -> None:
        nonlocal seen, busy
        seen += 1
        if seen == 5:
            busy = False
            fifth.set()
        if seen == 6:
            sixth.set()
        if seen < 100:
            scheduler.schedule(again)

    loop = asyncio.get_running_loop()
    scheduler.schedule(again)
    began = loop.time()
    await fifth.wait()
    assert loop.time() - began >= 5 * 0.002
    await sixth.wait()
    for _ in range(94):
        await asyncio.sleep(0)
    assert seen == 100


async def test_it_is_known_how_long_the_turns_took() -> None:
    timer = iter([1.0, 1.5, 2.0, 2.25])
    scheduler = WriteScheduler(lambda: False, lambda: next(timer))
    done = asyncio.Event()
    scheduler.schedule(lambda: None)
    scheduler.schedule(done.set)
    await done.wait()
    assert scheduler.seconds == 0.75
