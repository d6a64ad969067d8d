"""The connection of a client: its address, its TLS, and its failures, with asyncio and without."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

from gateway import errors
from gateway.client.protocol.exchange import NDJSON, GatewayCall, Head, TryAgain
from gateway.settings.kinds import masked

DEFAULT_URL = "http://127.0.0.1:8080"
# OpenSSL's codes for certificates of untrusted issuers.
_UNKNOWN_ISSUER = frozenset({18, 19, 20, 21})
_CONNECT_SECONDS = 10


class GatewayAddress:
    """Address of one gateway with the key for it. No other server gets the key: redirects and the
    environment's proxies are not followed. `ca`: file of the certificates that are trusted in
    place of the system's."""

    def __init__(self, url: str, key: str, ca: str | None = None) -> None:
        self.url = url
        self._ca = ca
        self._address = _checked(url)
        self._key = _usable(key)
        self._was_reached = False

    def options(self) -> dict[str, Any]:
        """Arguments of the clients of httpx."""
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self._address.scheme == "https":
            # The system's certificates, or SSL_CERT_FILE: loading takes 20 ms.
            trust = _trusting(self._ca)
        return {
            "base_url": self._address,
            "headers": {"Authorization": f"Bearer {self._key}", "Accept-Encoding": "identity"},
            "verify": trust,
            "trust_env": False,
        }

    def arguments(self, call: GatewayCall) -> dict[str, Any]:
        """Arguments of httpx for a request."""
        headers = {"Accept": call.accept, **call.headers}
        if call.content is not None:
            headers["Content-Type"] = NDJSON
        return {
            "method": call.method,
            "url": call.path,
            "params": call.params,
            "json": call.json,
            "content": call.content,
            "headers": headers,
            "timeout": httpx.Timeout(call.quiet, connect=_CONNECT_SECONDS),
        }

    def head_of(self, response: httpx.Response) -> Head:
        self._was_reached = True
        return Head(response.status_code, response.headers)

    def failure_of(self, error: httpx.HTTPError) -> Exception:
        """Error for a missing or incomplete answer: `TryAgain`, or `Unavailable` if no gateway was
        ever reached (code `unreachable`) or the connection is insecure."""
        reason = str(error) or type(error).__name__
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__context__
        if cause is not None and isinstance(error, httpx.ConnectError):
            if getattr(cause, "verify_code", 0) in _UNKNOWN_ISSUER:
                reason += "; if it is yours, name its CA in SSL_CERT_FILE"
            return errors.Unavailable(f"no secure connection to {self.url}: {reason}")
        if self._was_reached:
            return TryAgain(f"connection lost: {reason}")
        return errors.Unavailable(
            f"{self.url} cannot be reached: {reason}; is the gateway running?", code="unreachable"
        )


def _trusting(ca: str | None) -> ssl.SSLContext:
    """Context that trusts the CA in a file, or else those of the system."""
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise errors.InvalidRequest(
            f"{ca}: no certificates can be read from it: {error.strerror or error}"
        ) from None


def _usable(key: str) -> str:
    """The key as it can be sent: without blanks around it, as files end with a line break. No error
    may quote it."""
    key = key.strip() if isinstance(key, str) else ""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise errors.InvalidRequest("this is no key: it is empty, or has spaces or odd characters")
    return key


def _checked(url: str) -> httpx.URL:
    """Address of a gateway, checked."""
    if not isinstance(url, str):
        raise errors.InvalidRequest(
            f"not the address of a gateway: {type(url).__name__}; write it like {DEFAULT_URL}"
        )
    try:
        parts = httpx.URL(url)
        # As it is resolved: labels that are neither empty nor too long.
        host = parts.raw_host.decode().encode("idna")
        port = 80 if parts.port is None else parts.port
        usable = parts.scheme in ("http", "https") and host and 0 < port < 65536
    except (httpx.InvalidURL, UnicodeError):
        usable = False
    if not usable:
        raise errors.InvalidRequest(
            f"not the address of a gateway: {masked(url)!r}; write it like {DEFAULT_URL}"
        )
    if parts.userinfo:
        raise errors.InvalidRequest(
            "the address must not hold credentials; the key is sent as a header"
        )
    if "?" in url or "#" in url:
        raise errors.InvalidRequest("the address of a gateway has no ? or # part")
    return parts
