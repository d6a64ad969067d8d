"""Keys and tickets in the headers of a request, and in the subprotocols of a WebSocket."""

from __future__ import annotations

import base64
import binascii

from aiohttp import web

from gateway.access.credentials.ticket import PREFIX as TICKET
from gateway.access.credentials.token import looks_like_token
from gateway.access.credentials.viewer import PREFIX as VIEWER
from gateway.errors import Forbidden, InvalidRequest, Unauthorized
from gateway.http.connection.address import takes_basic

# Credentials that a browser can send with a WebSocket; the rest is the key in base64url.
SUBPROTOCOLS = "Sec-WebSocket-Protocol"
WEBSOCKET_BEARER = "base64url.bearer.authorization.audit."
_SCHEMES = ("bearer", "token", "splunk", "apikey")


def token_of(request: web.Request) -> str:
    """Token of a request. Raises `Unauthorized` if it has none."""
    token = _shown(request)
    if token.startswith(TICKET):
        raise Unauthorized(
            "this is a ticket: open the stream with ?ticket=.., or send it as a WebSocket "
            "subprotocol"
        )
    if token.startswith(VIEWER):
        raise Forbidden(
            "an embedded viewer reads pages, counts and one stream, and nothing else",
            code="not_for_viewers",
        )
    return token


def sent_viewer_token(request: web.Request) -> str | None:
    """Token of an embedded viewer in a request; None if it has other credentials, or none."""
    token = _shown(request) if sends_key(request) else ""
    return token if token.startswith(VIEWER) else None


def _shown(request: web.Request) -> str:
    headers = request.headers.getall("Authorization", [])
    offered = [one for one in offered_subprotocols(request) if one.startswith(WEBSOCKET_BEARER)]
    shown = {_from_base64url(one.removeprefix(WEBSOCKET_BEARER)) for one in offered}
    shown |= {_of_header(one, request) for one in headers[:1]}
    # A proxy may have checked another one; it may also add to a header what the subprotocol says.
    if len(shown) > 1 or len(headers) > 1 or len(offered) > 1:
        raise InvalidRequest(
            "send the key once: in one Authorization header, or in one subprotocol",
            code="ambiguous_key",
        )
    if not shown:
        raise Unauthorized("a key is needed: `Authorization: Bearer <key>`", code="missing_key")
    return shown.pop()


def _of_header(authorization: str, request: web.Request) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "basic":
        _refuse_readable(request)
        return _password(token.strip())
    if scheme.lower() not in _SCHEMES:
        raise Unauthorized("send the key as `Authorization: Bearer <key>`", code="missing_key")
    token = token.strip()
    # Clients of Elasticsearch encode `id:key`.
    encoded = scheme.lower() == "apikey" and not looks_like_token(token)
    return _password(token) if encoded else token


def _refuse_readable(request: web.Request) -> None:
    if not takes_basic(request):
        raise Forbidden(
            "Basic credentials are taken over TLS only, as many programs send them unasked: use "
            "https (name the proxy that ends TLS in server.trusted_proxies, and have it send one "
            'X-Forwarded-Proto), or set server.basic = "always"',
            code="basic_needs_tls",
        )


def _password(credentials: str) -> str:
    """The key in `user:key` in base64, as Basic credentials have it (RFC 7617); any user name is
    ignored."""
    try:
        _, colon, password = base64.b64decode(credentials, validate=True).partition(b":")
        key = password.decode()
    except ValueError:
        raise Unauthorized("the credentials are not base64 of `user:key`") from None
    if not colon or not key:
        raise Unauthorized("send the key as the password of the credentials")
    return key


def _from_base64url(text: str) -> str:
    try:
        padded = text + "=" * (-len(text) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise Unauthorized("the key in the subprotocol is not base64url") from None


def sends_key(request: web.Request) -> bool:
    """Whether a request has a key or ticket in its headers, right or wrong."""
    return "Authorization" in request.headers or any(
        one.startswith(WEBSOCKET_BEARER) for one in offered_subprotocols(request)
    )


def offered_ticket(request: web.Request) -> str | None:
    """Ticket among the subprotocols of a WebSocket, if any."""
    for offered in offered_subprotocols(request):
        if offered.startswith(WEBSOCKET_BEARER):
            text = _from_base64url(offered.removeprefix(WEBSOCKET_BEARER))
            return text if text.startswith(TICKET) else None
    return None


def offered_subprotocols(request: web.Request) -> list[str]:
    """Values of `Sec-WebSocket-Protocol`, in order, from all such headers."""
    headers = request.headers.getall(SUBPROTOCOLS, [])
    return [part.strip() for header in headers for part in header.split(",") if part.strip()]
