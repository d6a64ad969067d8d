"""`/console/{file}`: the files of the console, and its page."""

from __future__ import annotations

from aiohttp import web

from gateway.errors import NotFound
from gateway.http.console.assets import Asset, console
from gateway.http.console.oidc import provider_name
from gateway.http.request.context import CONTEXT
from gateway.http.response.accept import best_kind
from gateway.http.response.coding import chosen_coding

_HTML = "text/html"
_YEAR_SECONDS = 365 * 24 * 3600
_ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def wants_page(request: web.Request) -> bool:
    """Whether the client of `/` is a browser, and there is a console."""
    named = _HTML in request.headers.get("Accept", "").lower()
    enabled = request.app[CONTEXT].settings.console.enabled
    return named and enabled and best_kind(request, ("text/plain", _HTML)) == _HTML


def page(request: web.Request) -> web.Response:
    """The console's page."""
    made = console()
    return web.Response(
        body=made.page_with(provider_name(request.app[CONTEXT])),
        content_type=_HTML,
        charset="utf-8",
        headers={
            **_ISOLATED,
            "Content-Security-Policy": made.policy,
            "Cache-Control": "no-store",
            "Vary": "Accept",
        },
    )


async def asset(request: web.Request) -> web.Response:
    """`GET /console/{file}`."""
    found: Asset | None = None
    settings = request.app[CONTEXT].settings
    # Embedded viewers are made of the same files.
    if settings.console.enabled or settings.server.allowed_origins:
        found = console().assets.get(request.match_info["file"])
    if found is None:
        raise NotFound("this version of the console has no such file; load / again")
    headers = {
        **_ISOLATED,
        "Cache-Control": f"public, max-age={_YEAR_SECONDS}, immutable",
        "Content-Type": found.content_type,
        "Vary": "Accept-Encoding",
    }
    if found.gzipped is not None and chosen_coding(request, ("gzip",)):
        return web.Response(body=found.gzipped, headers={**headers, "Content-Encoding": "gzip"})
    return web.Response(body=found.content, headers=headers)
