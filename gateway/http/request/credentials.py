"""The credentials that a request shows: a key in a header or a subprotocol, or a ticket."""

from __future__ import annotations

import base64
import binascii

from aiohttp import web

from gateway.access.credentials.ticket import PREFIX as TICKET
from gateway.errors import Forbidden, InvalidRequest, Unauthorized
from gateway.http.connection.address import is_local, is_secure

# Credentials that a browser can send with a WebSocket; the rest is the key in base64url.
WEBSOCKET_BEARER = "base64url.bearer.authorization.audit."
_SCHEMES = ("bearer", "token", "splunk")


def token_of(request: web.Request, basic_over_http: bool) -> str:
    """The key that a request shows, as text. Raises `Unauthorized` if it shows none."""
    token = _shown(request, basic_over_http)
    if token.startswith(TICKET):
        raise Unauthorized(
            "this is a ticket: open the stream with ?ticket=.., or send it as a WebSocket "
            "subprotocol"
        )
    return token


def _shown(request: web.Request, basic_over_http: bool) -> str:
    sent = request.headers.getall("Authorization", [])
    if len(sent) > 1:
        # Whoever stands in front may have looked at another one.
        raise InvalidRequest("send one Authorization header", code="ambiguous_key")
    if sent:
        scheme, _, token = sent[0].partition(" ")
        if scheme.lower() == "basic":
            if not basic_over_http:
                _refuse_readable(request)
            return _password(token.strip())
        if scheme.lower() not in _SCHEMES:
            raise Unauthorized("send the key as `Authorization: Bearer <key>`", code="missing_key")
        return token.strip()
    for offered in offered_subprotocols(request):
        if offered.startswith(WEBSOCKET_BEARER):
            return _from_base64url(offered.removeprefix(WEBSOCKET_BEARER))
    raise Unauthorized("a key is needed: `Authorization: Bearer <key>`", code="missing_key")


def _refuse_readable(request: web.Request) -> None:
    """RFC 7617, section 4: Basic credentials are for connections that nobody else can read."""
    if not is_secure(request) and not is_local(request):
        raise Forbidden(
            "Basic credentials are taken over TLS only, as many programs send them unasked: use "
            "https (name the proxy that ends TLS in server.trusted_proxies, and have it send one "
            'X-Forwarded-Proto), or set server.basic = "always"',
            code="basic_needs_tls",
        )


def _password(credentials: str) -> str:
    """RFC 7617: the key is the password; the user name, and how it is encoded, is the client's
    business."""
    try:
        _, colon, password = base64.b64decode(credentials, validate=True).partition(b":")
    except ValueError:
        raise Unauthorized("the Basic credentials are not base64 of `user:key`") from None
    if not colon or not password:
        raise Unauthorized("send the key as the password of the Basic credentials")
    return password.decode("latin-1")


def _from_base64url(text: str) -> str:
    try:
        padded = text + "=" * (-len(text) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise Unauthorized("the key in the subprotocol is not base64url") from None


def offered_ticket(request: web.Request) -> str | None:
    """The ticket among the subprotocols of a WebSocket, if there is one."""
    for offered in offered_subprotocols(request):
        if offered.startswith(WEBSOCKET_BEARER):
            text = _from_base64url(offered.removeprefix(WEBSOCKET_BEARER))
            return text if text.startswith(TICKET) else None
    return None


def offered_subprotocols(request: web.Request) -> list[str]:
    """The values of `Sec-WebSocket-Protocol`, in order, from all such headers."""
    headers = request.headers.getall("Sec-WebSocket-Protocol", [])
    return [part.strip() for header in headers for part in header.split(",") if part.strip()]
