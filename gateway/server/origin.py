"""Which pages of browsers may open streams."""

from __future__ import annotations

from aiohttp import web

from gateway.errors import Forbidden
from gateway.server.context import CONTEXT


def check_origin(request: web.Request) -> None:
    """Refuse a page of a foreign origin: browsers let any page open a WebSocket anywhere, and only
    the server can refuse. Whoever is no browser sends no `Origin`."""
    origin = request.headers.get("Origin")
    if origin is None or origin in request.app[CONTEXT].settings.server.allowed_origins:
        return
    authority = origin.partition("://")[2].lower()
    if authority and authority == request.host.lower():
        return
    raise Forbidden(
        "this origin may not open streams; add it to server.allowed_origins",
        code="origin_not_allowed",
    )
