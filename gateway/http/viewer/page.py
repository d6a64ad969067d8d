"""`/embed`: the page of an embedded viewer, for frames in pages of `server.allowed_origins`."""

from __future__ import annotations

from aiohttp import web

from gateway.errors import NotFound
from gateway.http.console.assets import embedded, policy_of
from gateway.http.request.context import CONTEXT


async def embed(request: web.Request) -> web.Response:
    """`GET /embed`, and below it any one name. The ticket is in the fragment, which browsers do not
    send."""
    origins = request.app[CONTEXT].settings.server.allowed_origins
    if not origins:
        raise NotFound(
            "no page may show the gateway in a frame: name its origin in server.allowed_origins"
        )
    made = embedded()
    return web.Response(
        body=made.page,
        content_type="text/html",
        charset="utf-8",
        headers={
            "Content-Security-Policy": policy_of(made.import_map, origins),
            "Cache-Control": "no-store",
        },
    )
