"""Connections of destinations over TCP and TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from typing import Any

import pytest
import trustme

from gateway.delivery.connect.addresses import AddressRule
from gateway.delivery.connect.http_client import ClientOptions
from gateway.delivery.connect.lookup import ConnectRule, Lookups
from gateway.delivery.connect.stream_dialer import StreamDialer
from gateway.delivery.connect.tls import TlsOptions
from gateway.delivery.connect.transport import NoAnswer
from tests.support.cases import every

OWN = ConnectRule(AddressRule(configured=True))
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello\n")
    await writer.drain()


@asynccontextmanager
async def server(serve: Serve = greet, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    running: set[asyncio.Task[Any]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await serve(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    made = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield made.sockets[0].getsockname()[1]
    finally:
        made.close()
        await asyncio.gather(*running, return_exceptions=True)
        await made.wait_closed()


class _NoNames(Lookups):
    """Look-ups of names that do not exist."""

    async def resolve(self, host: str, port: int) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class _Names(Lookups):
    """Look-ups that have another address each time."""

    def __init__(self, *addresses: str) -> None:
        super().__init__()
        self._addresses = iter(addresses)

    async def resolve(self, host: str, port: int) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (next(self._addresses), port))]


async def line_from(url: str, lookups: Lookups | None = None, **options: Any) -> bytes:
    """First line of the receiver at a URL."""
    lookups = lookups or Lookups()
    try:
        client = StreamDialer(ClientOptions(**{"rule": OWN, **options}), lookups)
        reader, writer = await client.connect(url, 6514)
        try:
            return await reader.readline()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
    finally:
        lookups.close()


async def failure(url: str, **options: Any) -> NoAnswer:
    with pytest.raises(NoAnswer) as raised:
        await line_from(url, **options)
    return raised.value


def context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(made)
    return made


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


async def test_receivers_are_reached_over_tcp_and_tls(authority: trustme.CA) -> None:
    async with server() as port:
        assert await line_from(f"tcp://localhost:{port}") == b"hello\n"
    tls = TlsOptions(ca=authority.cert_pem.bytes().decode())
    async with server(tls=context(authority, "localhost")) as port:
        assert await line_from(f"tls://localhost:{port}", tls=tls) == b"hello\n"
    async with server(tls=context(authority, "siem.example.org")) as port:
        named = TlsOptions(ca=tls.ca, server_name="siem.example.org")
        assert await line_from(f"tls://127.0.0.1:{port}", tls=named) == b"hello\n"
        refused = await failure(f"tls://localhost:{port}", tls=tls)
        assert (refused.kind, refused.config) == ("certificate", True)


@every(
    ["tcp://127.0.0.1", "tcp://localhost", "tls://[::1]", "tls://[::ffff:7f00:1]", "tcp://127.1"]
)
def test_this_machine_is_not_reached_in_any_spelling(url: str) -> None:
    async def attempt() -> None:
        async with server() as port:
            rule = ConnectRule(AddressRule(), plaintext=True)
            assert (await failure(f"{url}:{port}", rule=rule)).config

    asyncio.run(attempt())


async def test_a_name_that_is_rebound_to_a_refused_address_is_not_followed_there() -> None:
    """127.0.0.1 stands for a public address, as tests send nothing off the machine."""
    rule = ConnectRule(AddressRule((ip_network("127.0.0.1"),)), plaintext=True)
    lookups = _Names("127.0.0.1", "127.0.0.2")
    async with server() as port:
        dialer = StreamDialer(ClientOptions(rule), lookups)
        url = f"tcp://rebinding.example.org:{port}"
        first = await dialer.open(url, 6514)
        await first.close()
        with pytest.raises(NoAnswer, match=r"127\.0\.0\.2 is a loopback address") as refused:
            await dialer.open(url, 6514)
        assert (refused.value.kind, refused.value.config) == ("address", True)
    lookups.close()


async def test_what_cannot_be_reached_is_tried_again() -> None:
    async with server() as port:
        pass
    closed = await failure(f"tcp://localhost:{port}")
    assert (closed.kind, closed.config) == ("connect", False)
    missing = await failure("tls://siem.example.org", lookups=_NoNames())
    assert (missing.kind, missing.config) == ("dns", False)
    async with server() as port:
        assert (await failure(f"tls://localhost:{port}")).kind == "tls"


async def test_a_handshake_without_end_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with server(silent) as port:
        late = await failure(f"tls://localhost:{port}", connect_timeout=0.1)
        assert (late.kind, late.config) == ("timeout", False)


async def test_what_is_not_encrypted_has_to_be_asked_for() -> None:
    refused = await failure("tcp://siem.example.org", rule=ConnectRule())
    assert (refused.kind, refused.config) == ("url", True)


async def test_a_proxy_tunnels_and_its_refusals_are_told(authority: trustme.CA) -> None:
    heads: list[bytes] = []
    status = [b"200 OK"]

    async with server(tls=context(authority, "siem.example.org")) as port:

        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 " + status[0] + b"\r\n\r\n")
            if status[0].startswith(b"200"):
                there, back = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_pump(reader, back), _pump(there, writer))

        async with server(proxy) as proxy_port:
            options = {
                "rule": ConnectRule(),
                "proxy": f"http://ann:p%40w@localhost:{proxy_port}",
                "tls": TlsOptions(ca=authority.cert_pem.bytes().decode()),
            }
            assert await line_from("tls://siem.example.org", **options) == b"hello\n"
            assert heads[0].startswith(b"CONNECT siem.example.org:6514 HTTP/1.1\r\n")
            assert b"\r\nProxy-Authorization: Basic YW5uOnBAdw==\r\n" in heads[0]
            for status[0], config in ((b"407 No", True), (b"403 No", True), (b"503 No", False)):
                refused = await failure("tls://siem.example.org", **options)
                assert (refused.kind, refused.config) == ("proxy", config)
            for host in ("169.254.169.254", "localhost"):
                refused = await failure(f"tls://{host}", **options)
                assert refused.kind == "address"


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
