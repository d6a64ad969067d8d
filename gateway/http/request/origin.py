"""Check of web origins that may open streams, and CORS (Fetch, section 3.2) for them."""

from __future__ import annotations

from collections.abc import Awaitable

from aiohttp import web

from gateway.errors import Forbidden
from gateway.http.connection.web_origin import is_own_origin, parse_origin
from gateway.http.request.context import CONTEXT
from gateway.http.response.problem import Handler

_SENT = (
    "Accept, Authorization, Cache-Control, Content-Encoding, Content-Type, If-Match, "
    "Last-Event-ID, Prefer"
)
_SHOWN = (
    "Audit-Cursor, Audit-Has-More, ETag, Preference-Applied, RateLimit-Limit, RateLimit-Policy, "
    "RateLimit-Remaining, RateLimit-Reset, Retry-After, WWW-Authenticate"
)
_PREFLIGHT_SECONDS = 600


def check_origin(request: web.Request) -> None:
    """Refuse a page of a foreign origin: browsers let any page open a WebSocket anywhere, and only
    the server can refuse. Other clients send no `Origin`."""
    sent = request.headers.getall("Origin", [])
    if not sent:
        return
    if len(sent) > 1:
        raise Forbidden("send one Origin header", code="origin_not_allowed")
    if _allowed(request) is None and not is_own_origin(request, sent[0]):
        raise Forbidden(
            "this origin may not open streams; add it to server.allowed_origins. If it is the "
            "gateway's own, name the proxy that ends TLS in server.trusted_proxies, and have it "
            "send one X-Forwarded-Proto",
            code="origin_not_allowed",
        )


def cors_headers(request: web.BaseRequest) -> dict[str, str]:
    """Headers that let a page of an allowed origin read an answer; empty for others."""
    if not isinstance(request, web.Request) or CONTEXT not in request.app:
        return {}
    if not request.app[CONTEXT].settings.server.allowed_origins:
        return {}
    if not request.path.startswith("/v1/"):
        return {}
    origin = _allowed(request)
    if origin is None:
        return {"Vary": "Origin"}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": _SHOWN,
        "Vary": "Origin",
    }


async def add_cors_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Add the headers to a response of aiohttp; streams add them to their own head."""
    headers = cors_headers(request)
    if "Vary" in headers and "Vary" in response.headers:
        headers["Vary"] = f"{response.headers['Vary']}, {headers['Vary']}"
    response.headers.update(headers)


@web.middleware
def preflights(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
    """Answer preflight requests of browsers."""
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return handler(request)
    return _preflight(request, handler)


async def _preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
    error = request.match_info.http_exception
    if not isinstance(error, web.HTTPMethodNotAllowed):
        return await handler(request)
    if not request.path.startswith("/v1/") or _allowed(request) is None:
        raise Forbidden(
            "pages of this origin may not ask; add it to server.allowed_origins",
            code="origin_not_allowed",
        )
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": ", ".join(sorted(error.allowed_methods)),
            "Access-Control-Allow-Headers": _SENT,
            "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
        },
    )


def _allowed(request: web.Request) -> str | None:
    """Origin of the page as sent, if `server.allowed_origins` has it."""
    sent = request.headers.getall("Origin", [])
    allowed = request.app[CONTEXT].settings.server.allowed_origins
    if len(sent) == 1 and allowed and parse_origin(sent[0]) in map(parse_origin, allowed):
        return sent[0]
    return None
