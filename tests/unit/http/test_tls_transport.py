"""TLS of one connection, on real sockets: ends, half-closed connections, bounds of handshakes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from gateway.http.tls.certificate import load_certificate
from gateway.http.tls.handshakes import Handshakes
from gateway.http.tls.transport import TlsTransport
from gateway.settings.tls import TlsSettings
from tests.support.certificates import PairFiles, client_context
from tests.support.key_updates import NOT_REQUESTED, OPENSSL, REQUESTED, KeyUpdater
from tests.support.machine_time import eventually, patience

needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="OpenSSL cannot be called by itself")


class Server(asyncio.Protocol):
    """What a protocol above the transport is told."""

    def __init__(self, keeps: bool = False) -> None:
        self.keeps = keeps
        self.transport: TlsTransport | None = None
        self.received = b""
        self.pieces: list[int] = []
        self.ended = self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, TlsTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.pieces.append(len(data))

    def eof_received(self) -> bool:
        self.ended = True
        return self.keeps

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost = True


class Client:
    """A peer that does each step of TLS by itself, so that it can close one side alone."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context().wrap_bio(
            self.incoming, self.outgoing, server_hostname="localhost"
        )

    async def step(self, call: Callable[[], bytes | int | None]) -> bytes | int | None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(patience()):
            while True:
                try:
                    done = call()
                except ssl.SSLWantReadError:
                    done = None
                else:
                    await self.flush()
                    return done
                await self.flush()
                data = await loop.sock_recv(self.sock, 1 << 16)
                if not data:
                    raise EOFError
                self.incoming.write(data)

    async def flush(self) -> None:
        if self.outgoing.pending:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(self.sock, self.outgoing.read())

    async def shake(self) -> None:
        await self.step(self.tls.do_handshake)

    async def send(self, data: bytes) -> None:
        for begin in range(0, len(data), 16 << 10):
            await self.step(partial(self.tls.write, data[begin : begin + (16 << 10)]))

    async def read(self) -> bytes:
        """What comes until close_notify."""
        found = b""
        with suppress(ssl.SSLZeroReturnError):
            while data := await self.step(partial(self.tls.read, 1 << 16)):
                assert isinstance(data, bytes)
                found += data
        return found

    async def close_side(self) -> None:
        """Send close_notify, and read on."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        await self.flush()


Open = Callable[..., object]


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    return load_certificate(TlsSettings(**PairFiles(tmp_path).settings)).context


@pytest.fixture
async def connect(context: ssl.SSLContext) -> AsyncIterator[Callable[..., object]]:
    """Connects a client to a protocol; returns both before their handshake."""
    opened: list[tuple[asyncio.Transport, socket.socket]] = []

    async def connect(server: Server, handshakes: Handshakes | None = None) -> Client:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        below = TlsTransport(server, context, Handshakes() if handshakes is None else handshakes)
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: below, sock=ours)
        opened.append((transport, theirs))
        return Client(theirs)

    yield connect
    for transport, sock in opened:
        if not transport.is_closing():
            transport.abort()
        sock.close()


async def test_what_both_sides_write_arrives_whole(connect: Open) -> None:
    server = Server()
    client = await connect(server)  # type: ignore[misc]
    await client.shake()
    await eventually(lambda: server.transport is not None)
    assert server.transport is not None
    server.transport.max_size = 4096
    sent = bytes(range(256)) * 1200
    await client.send(sent)
    await eventually(lambda: len(server.received) == len(sent))
    assert server.received == sent
    assert max(server.pieces) <= 4096
    server.transport.write(memoryview(sent))
    server.transport.close()
    assert await client.read() == sent
    await eventually(lambda: server.lost)


async def test_a_peer_that_closed_its_side_still_gets_what_is_written(connect: Open) -> None:
    server = Server(keeps=True)
    client = await connect(server)  # type: ignore[misc]
    await client.shake()
    await client.send(b"a question")
    await client.close_side()
    await eventually(lambda: server.ended)
    assert (server.received, server.lost) == (b"a question", False)
    assert server.transport is not None
    server.transport.write(b"an answer")
    server.transport.close()
    assert await client.read() == b"an answer"


async def test_a_connection_without_a_use_for_its_other_side_ends_with_its_peer(
    connect: Open,
) -> None:
    server = Server()
    client = await connect(server)  # type: ignore[misc]
    await client.shake()
    await client.close_side()
    assert await client.read() == b""
    await eventually(lambda: server.lost)


async def test_nothing_comes_while_reading_is_paused_and_all_of_it_afterwards(
    connect: Open,
) -> None:
    class Once(Server):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            assert self.transport is not None
            self.transport.pause_reading()

    server = Once()
    client = await connect(server)  # type: ignore[misc]
    await client.shake()
    await eventually(lambda: server.transport is not None)
    assert server.transport is not None
    server.transport.max_size = 1000
    await client.send(b"x" * 10_500)
    await client.close_side()
    for count in range(1, 12):
        await eventually(lambda expected=count: len(server.pieces) == expected)  # type: ignore[misc]
        assert not server.ended
        server.transport.resume_reading()
    assert server.received == b"x" * 10_500
    await eventually(lambda: server.ended)


async def test_bytes_that_are_no_tls_end_the_connection_alone(connect: Open) -> None:
    server = Server()
    client = await connect(server)  # type: ignore[misc]
    await client.shake()
    await asyncio.get_running_loop().sock_sendall(client.sock, b"no record at all, but text")
    await eventually(lambda: server.lost)
    assert server.received == b""


async def test_handshakes_that_are_not_finished_end_with_their_listener(connect: Open) -> None:
    handshakes = Handshakes()
    clients = [await connect(Server(), handshakes) for _ in range(3)]  # type: ignore[misc]
    await eventually(lambda: len(handshakes) == 3)
    handshakes.close()
    async with asyncio.timeout(patience()):
        for client in clients:
            assert await asyncio.get_running_loop().sock_recv(client.sock, 1) == b""
    assert len(handshakes) == 0


async def test_the_crowd_loses_its_oldest_handshake_and_silence_is_cut(connect: Open) -> None:
    handshakes = Handshakes(most=3, seconds=0.05)
    clients = [await connect(Server(), handshakes) for _ in range(5)]  # type: ignore[misc]
    assert len(handshakes) <= 3
    async with asyncio.timeout(patience()):
        for client in clients:
            assert await asyncio.get_running_loop().sock_recv(client.sock, 1) == b""
    assert len(handshakes) == 0


class Peer:
    """A connection of which only its end is looked at."""

    aborted = False

    def abort(self) -> None:
        self.aborted = True


async def test_where_handshakes_are_too_many_the_oldest_of_the_address_with_most_goes() -> None:
    handshakes = Handshakes(most=3)
    peers = [Peer() for _ in range(4)]
    addresses = ("203.0.113.1", "198.51.100.1", "198.51.100.1", "192.0.2.1")
    for peer, address in zip(peers, addresses, strict=True):
        handshakes.begin(peer, address)
    assert [peer.aborted for peer in peers] == [False, True, False, False]
    handshakes.close()


@needs_openssl
async def test_many_small_records_are_taken_in_turns_with_others(connect: Open) -> None:
    """Each may have keys derived anew, for a peer that has no key of the gateway."""
    server, rounds = Server(), 0
    client = await connect(server)  # type: ignore[misc]
    peer = KeyUpdater(client.sock)
    await peer.shake()
    records = peer.updates(1000, NOT_REQUESTED) + peer.written(b"the end")
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(client.sock, records))
    async with asyncio.timeout(patience()):
        while not server.received:
            await asyncio.sleep(0)
            rounds += 1
    await sending
    assert server.received == b"the end"
    assert rounds >= 1000 // 16
    peer.close()


@needs_openssl
async def test_a_peer_that_reads_no_answers_of_the_protocol_is_cut_off(connect: Open) -> None:
    server = Server()
    client = await connect(server)  # type: ignore[misc]
    peer = KeyUpdater(client.sock)
    await peer.shake()
    await eventually(lambda: server.transport is not None)
    assert server.transport is not None
    records = peer.updates(20_000, REQUESTED)
    with suppress(ConnectionError):
        await asyncio.get_running_loop().sock_sendall(client.sock, records)
    await eventually(lambda: server.lost)
    assert server.transport.get_write_buffer_size() == 0
    peer.close()


@needs_openssl
async def test_a_peer_that_reads_has_as_many_keys_updated_as_it_likes(connect: Open) -> None:
    server = Server()
    client = await connect(server)  # type: ignore[misc]
    peer = KeyUpdater(client.sock)
    await peer.shake()
    loop = asyncio.get_running_loop()
    answered = 0
    async with asyncio.timeout(patience()):
        for _ in range(20):
            await loop.sock_sendall(client.sock, peer.updates(50, REQUESTED))
            answered += len(await loop.sock_recv(client.sock, 1 << 16))
    await loop.sock_sendall(client.sock, peer.written(b"the end"))
    await eventually(lambda: server.received == b"the end")
    assert answered
    peer.close()
