"""HTTP client of destinations: connects to checked addresses only, reads bounded answers, and takes
nothing from the environment."""

from __future__ import annotations

import asyncio
import io
import re
import zlib
from collections.abc import Awaitable
from typing import NamedTuple

import aiohttp

from gateway import __version__
from gateway.clock import Clock
from gateway.delivery.connect.addresses import AddressRule
from gateway.delivery.connect.endpoint import check_endpoint, parse_endpoint
from gateway.delivery.connect.failures import failure_of_security
from gateway.delivery.connect.lookup import CheckedResolver, ConnectRule, Lookups
from gateway.delivery.connect.tls import TlsOptions, tls_context
from gateway.delivery.connect.transport import (
    MAX_ANSWER_BYTES,
    HttpRequest,
    NoAnswer,
    RemoteAnswer,
    hide,
    unpack,
)
from gateway.errors import InvalidRequest
from gateway.tracing import spans as tracing

USER_AGENT = f"audit-gateway/{__version__}"
_HEADER = re.compile(r"[\t -~]*", re.ASCII)
_GZIP = zlib.MAX_WBITS | 16
# What takes longer to compress than the event loop should be held.
_MUCH = 64 * 1024


class ClientOptions(NamedTuple):
    """How one destination connects. `proxy` is that of the settings, which may be anywhere."""

    rule: ConnectRule = ConnectRule()
    tls: TlsOptions = TlsOptions()
    connect_timeout: float = 5.0
    request_timeout: float = 30.0
    proxy: str = ""
    cookies: bool = False


class HttpClient:
    """Connections of one destination to its receiver. Implements `HttpTransport`."""

    def __init__(self, options: ClientOptions, lookups: Lookups, clock: Clock) -> None:
        self._options, self._lookups, self._clock = options, lookups, clock
        self._context = tls_context(options.tls)
        # One without TLS and one with it, each made when it is needed.
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        # Body that a thread compresses, or has compressed.
        self._packing: asyncio.Future[bytes] | None = None

    def pack(self, body: bytes) -> Awaitable[bytes] | None:
        if len(body) <= _MUCH:
            return None
        self._packing = asyncio.get_running_loop().run_in_executor(None, _gzip, body)
        return self._packing

    async def request(self, request: HttpRequest) -> RemoteAnswer:
        """Send the request and return the answer. Raises `NoAnswer`."""
        secrets = [one for one in request.secrets if one]
        authorization = request.headers.get("Authorization", "")
        # Also without the scheme, as it is echoed by some.
        secrets += [part for part in authorization.split(" ")[1:] if part]
        try:
            return await self._request(request, secrets)
        except NoAnswer:
            raise
        except Exception as error:
            failure = _failure(error)
            if failure is None:
                raise
            failure.message = hide(failure.message.encode(), secrets).decode()
            raise failure from None

    async def _request(self, request: HttpRequest, secrets: list[str]) -> RemoteAnswer:
        session = self._session(self._check(request))
        headers = {
            "User-Agent": USER_AGENT, "Accept-Encoding": "gzip", **tracing.headers(),
            **request.headers,
        }  # fmt: skip
        body = request.body
        if request.compress and body:
            headers["Content-Encoding"] = "gzip"
            body = await (request.packed or self.pack(body) or _done(body))
        async with session.request(
            request.method,
            request.url,
            # In pieces, where aiohttp would write it in one.
            data=io.BytesIO(body) if len(body) > _MUCH else body or None,
            headers=headers,
            allow_redirects=False,
            ssl=self._context,
            server_hostname=self._options.tls.server_name or None,
            proxy=self._options.proxy or None,
        ) as response:
            content, whole = await _read(response.content)
            if not whole:
                response.close()
        if whole:
            coding = response.headers.get("Content-Encoding", "")
            content, whole = unpack(content, coding)
        return RemoteAnswer(
            response.status,
            {name.lower(): value for name, value in response.headers.items()},
            hide(content, secrets),
            self._clock.now(),
            whole,
        )

    def _check(self, request: HttpRequest) -> bool:
        """Refuse what can be refused before connecting; whether the request is not encrypted."""
        options = self._options
        if not all(map(_HEADER.fullmatch, request.headers.values())):
            raise NoAnswer(
                "url",
                "a header, or the secret in it, has characters that headers cannot carry",
                config=True,
            )
        try:
            endpoint = parse_endpoint(request.url)
            check_endpoint(
                endpoint, options.rule.addresses,
                plaintext=options.rule.plaintext, proxied=bool(options.proxy),
            )  # fmt: skip
        except InvalidRequest as error:
            kind = "address" if error.code == "address_refused" else "url"
            raise NoAnswer(kind, error.detail, config=True) from None
        return endpoint.plain

    def _session(self, plain: bool) -> aiohttp.ClientSession:
        if plain in self._sessions:
            return self._sessions[plain]
        options = self._options
        rule = options.rule
        if options.proxy:
            rule = ConnectRule(AddressRule(rule.addresses.allowed, configured=True), plaintext=True)
        resolver = CheckedResolver(self._lookups, rule, plain=plain)
        session = self._sessions[plain] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=resolver,
                use_dns_cache=False,
                socket_factory=resolver.new_socket,
                limit=4,
            ),
            cookie_jar=aiohttp.CookieJar(unsafe=True)
            if options.cookies
            else aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=options.request_timeout,
                connect=options.connect_timeout,
                sock_connect=options.connect_timeout,
            ),
            auto_decompress=False,
            trust_env=False,
        )
        return session

    async def close(self) -> None:
        if self._packing is not None:
            # What is in a thread ends by itself; what waits for one is not begun.
            self._packing.cancel()
        while self._sessions:
            await self._sessions.popitem()[1].close()


def _gzip(body: bytes) -> bytes:
    return zlib.compress(body, 1, _GZIP)


async def _done(body: bytes) -> bytes:
    return _gzip(body)


async def _read(content: aiohttp.StreamReader) -> tuple[bytes, bool]:
    """What is read of an answer, and whether that is all."""
    parts: list[bytes] = []
    size = 0
    async for part in content.iter_any():
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            return b"".join(parts)[:MAX_ANSWER_BYTES], False
    return b"".join(parts), True


def _failure(error: Exception) -> NoAnswer | None:
    """What an exception of the client means; None for those that are faults of the program."""
    if failure := failure_of_security(error):
        return failure
    if isinstance(error, aiohttp.ClientSSLError):
        wrong = isinstance(error, aiohttp.ClientConnectorCertificateError)
        return NoAnswer("certificate" if wrong else "tls", "TLS failed", config=wrong)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return NoAnswer("dns", f"{error.host}: {error.os_error.strerror or error.os_error}")
    if isinstance(error, aiohttp.ClientConnectorError):
        kind = "proxy" if isinstance(error, aiohttp.ClientProxyConnectionError) else "connect"
        return NoAnswer(kind, f"{error.host}:{error.port}: {error.os_error.strerror}")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        wrong = 300 <= error.status < 500 and error.status not in (408, 425, 429)
        return NoAnswer("proxy", f"the proxy answers {error.status}", config=wrong)
    if isinstance(error, aiohttp.InvalidURL):
        return NoAnswer("url", "the URL is none that can be requested", config=True)
    if isinstance(error, TimeoutError):
        connecting = isinstance(error, aiohttp.ConnectionTimeoutError)
        what = "no connection in time" if connecting else "no whole answer in time"
        return NoAnswer("timeout", what)
    if isinstance(error, aiohttp.ClientResponseError):
        return NoAnswer("protocol", "the answer is not HTTP")
    if isinstance(error, aiohttp.ClientError | OSError):
        return NoAnswer("disconnected", "the connection ended before the whole answer")
    return None
