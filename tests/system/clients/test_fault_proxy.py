"""The proxy that the other tests trust to fail as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.support.machine_time import patience
from tests.system.clients.fault_proxy import Fault, FaultProxy

_SENT = bytes(range(256)) * 40


@asynccontextmanager
async def proxy_before_a_server(
    *faults: Fault,
) -> AsyncIterator[tuple[FaultProxy, asyncio.Queue[bytes]]]:
    """A server that answers each connection's first bytes with `_SENT`; what it got goes into
    the queue."""
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            got.put_nowait(await reader.read(100))
            writer.write(_SENT)
            await writer.drain()
            while data := await reader.read(100):
                got.put_nowait(data)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with asyncio.timeout(patience(10)), server, FaultProxy(host, port, faults) as proxy:
        yield proxy, got


async def connect(proxy: FaultProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that has sent its first bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"hello")
    return reader, writer


async def test_without_a_fault_all_bytes_pass_both_ways() -> None:
    async with proxy_before_a_server() as (proxy, got):
        reader, writer = await connect(proxy)
        assert await reader.readexactly(len(_SENT)) == _SENT
        assert await got.get() == b"hello"
        assert proxy.heads == [b"hello"]
        writer.transport.abort()


@pytest.mark.parametrize("after", [1, 5000, len(_SENT)])
async def test_a_half_close_comes_behind_the_named_byte_and_leaves_the_way_back_open(
    after: int,
) -> None:
    async with proxy_before_a_server(Fault("half-close", after)) as (proxy, got):
        reader, writer = await connect(proxy)
        assert await reader.read() == _SENT[:after]
        await got.get()
        writer.write(b"still there")
        assert await got.get() == b"still there"
        writer.transport.abort()


@pytest.mark.parametrize("piece", [1, 3, 65536])
async def test_a_fault_strikes_behind_the_named_text_however_it_arrives(piece: int) -> None:
    text = bytes(range(100, 110))
    async with proxy_before_a_server(Fault("half-close", text, piece=piece)) as (proxy, _):
        reader, writer = await connect(proxy)
        assert await reader.read() == _SENT[:110]
        writer.transport.abort()


async def test_a_reset_is_one_for_both_sides() -> None:
    async with proxy_before_a_server(Fault("reset", 10)) as (proxy, _):
        reader, writer = await connect(proxy)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert proxy.struck == 1
        writer.transport.abort()


async def test_a_black_hole_stays_open_and_passes_nothing() -> None:
    async with proxy_before_a_server(Fault("black hole", 10)) as (proxy, got):
        reader, writer = await connect(proxy)
        assert await reader.readexactly(10) == _SENT[:10]
        assert await got.get() == b"hello"
        await proxy.faults_struck(1)
        writer.write(b"lost")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        assert got.empty()
        writer.transport.abort()


async def test_held_connections_wait_until_they_are_let_in() -> None:
    async with proxy_before_a_server(Fault("half-close", 1, hold=True)) as (proxy, got):
        first, first_writer = await connect(proxy)
        assert await first.read() == _SENT[:1]
        assert await got.get() == b"hello"
        second, second_writer = await connect(proxy)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(got.get(), 0.2)
        proxy.let_in()
        assert await second.readexactly(len(_SENT)) == _SENT
        first_writer.transport.abort()
        second_writer.transport.abort()
