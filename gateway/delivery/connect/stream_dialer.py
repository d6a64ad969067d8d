"""Connections of destinations over TCP and TLS, without HTTP, to checked addresses only."""

from __future__ import annotations

import asyncio
import socket
import ssl
from urllib.parse import unquote, urlsplit

from gateway.delivery.connect.addresses import AddressRule
from gateway.delivery.connect.counted_stream import CountedStream, PeerReader
from gateway.delivery.connect.endpoint import STREAM_SCHEMES, check_endpoint, parse_endpoint
from gateway.delivery.connect.failures import failure_of_stream
from gateway.delivery.connect.http_client import ClientOptions
from gateway.delivery.connect.lookup import ConnectRule, Lookups
from gateway.delivery.connect.tls import tls_context
from gateway.delivery.connect.transport import NoAnswer, basic_credentials
from gateway.errors import InvalidRequest

Streams = tuple[PeerReader, asyncio.StreamWriter]
_PROXY_PORT = 3128
_MOST_HEAD = 8192
_ACCEPTED = (b"HTTP/1.1 200", b"HTTP/1.0 200")


class StreamDialer:
    """Opens the connections of one destination. Implements
    `gateway.delivery.connect.byte_stream.Dialer`."""

    def __init__(self, options: ClientOptions, lookups: Lookups) -> None:
        self._options, self._lookups = options, lookups
        self._context = tls_context(options.tls)

    async def open(self, url: str, port: int) -> CountedStream:
        """Connection that only sends, as of `connect`."""
        reader, writer = await self.connect(url, port)
        return CountedStream(reader, writer, self._options.request_timeout)

    async def connect(self, url: str, port: int) -> Streams:
        """Connection to a `tls://` or `tcp://` URL, at that port if it names none. Raises
        `NoAnswer`, and nothing else."""
        options = self._options
        try:
            endpoint = parse_endpoint(url, STREAM_SCHEMES)
            check_endpoint(
                endpoint, options.rule.addresses,
                plaintext=options.rule.plaintext, proxied=bool(options.proxy),
            )  # fmt: skip
        except InvalidRequest as error:
            kind = "address" if error.code == "address_refused" else "url"
            raise NoAnswer(kind, error.detail, config=True) from None
        host, port = endpoint.host, endpoint.port or port
        context = None if endpoint.plain else self._context
        try:
            async with asyncio.timeout(options.connect_timeout):
                if options.proxy:
                    return await self._by_proxy(host, port, context)
                return await self._direct(host, port, context)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, NoAnswer) as error:
            raise failure_of_stream(error, f"{host}:{port}") from None

    async def _direct(self, host: str, port: int, context: ssl.SSLContext | None) -> Streams:
        name = self._options.tls.server_name or host
        made = await self._socket(host, port, self._options.rule, plain=context is None)
        return await _streams(made, context, name)

    async def _by_proxy(self, host: str, port: int, context: ssl.SSLContext | None) -> Streams:
        """Connection through a tunnel of the proxy, which looks the name up."""
        proxy = urlsplit(self._options.proxy)
        if proxy.scheme != "http" or proxy.hostname is None:
            raise NoAnswer("proxy", "destinations.proxy is no URL of an HTTP proxy", config=True)
        allowed = self._options.rule.addresses.allowed
        rule = ConnectRule(AddressRule(allowed, configured=True), plaintext=True)
        made = await self._socket(proxy.hostname, proxy.port or _PROXY_PORT, rule, plain=True)
        reader, writer = await _streams(made, None, "")
        try:
            there = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            lines = [f"CONNECT {there} HTTP/1.1", f"Host: {there}"]
            if proxy.username is not None:
                user, password = unquote(proxy.username), unquote(proxy.password or "")
                lines.append(f"Proxy-Authorization: {basic_credentials(user, password)}")
            writer.write("\r\n".join([*lines, "", ""]).encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(_ACCEPTED):
                status = head[9:12].decode("latin-1")
                wrong = status.startswith(("3", "4")) and status not in ("408", "429")
                raise NoAnswer("proxy", f"the proxy answers {status}", config=wrong)
            if context is not None:
                name = self._options.tls.server_name or host
                await writer.start_tls(context, server_hostname=name)
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer

    async def _socket(
        self, host: str, port: int, rule: ConnectRule, *, plain: bool
    ) -> socket.socket:
        """Connected socket; the first of the checked addresses that takes it."""
        found = await self._lookups.resolve(host, port)
        for *_, address in found:
            rule.check(host, address[0], plain=plain)
        failed: OSError = OSError("no addresses")
        for family, kind, protocol, _, address in found:
            made = socket.socket(family, kind, protocol)
            try:
                made.setblocking(False)
                await asyncio.get_running_loop().sock_connect(made, address)
                return made
            except OSError as error:
                made.close()
                failed = error
            except BaseException:
                made.close()
                raise
        raise failed


async def _streams(made: socket.socket, context: ssl.SSLContext | None, name: str) -> Streams:
    loop = asyncio.get_running_loop()
    reader = PeerReader(limit=_MOST_HEAD, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    try:
        transport, _ = await loop.create_connection(
            lambda: protocol,
            sock=made,
            ssl=context,
            server_hostname=name if context is not None else None,
        )
    except BaseException:
        made.close()
        raise
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
