"""Routing of requests to handlers, faster than aiohttp's.

For paths without parameters, the match and the chain of middlewares are made once instead of for
each request. All other requests go through aiohttp.
"""

from __future__ import annotations

from functools import partial

from aiohttp import web

from gateway.http.framework.aiohttp_internals import handle_by_application, set_match
from gateway.http.response.problem import Handler

_Known = tuple[web.UrlMappingMatchInfo, Handler]


class Routes:
    """Routes of a frozen application."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._known: dict[tuple[str, str], _Known] = {
            (route.method, resource.canonical): self._prepared(route)
            for resource in app.router.resources()
            if isinstance(resource, web.PlainResource)
            for route in resource
        }

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer of a request's handler in its middlewares, as from the application."""
        known = self._known.get((request.method, request.rel_url.path_safe))
        if known is None or "Expect" in request.headers:
            return await handle_by_application(self._app, request)
        match, handler = known
        set_match(request, match)
        return await handler(request)

    def _prepared(self, route: web.AbstractRoute) -> _Known:
        match = web.UrlMappingMatchInfo({}, route)
        match.add_app(self._app)
        match.freeze()
        handler = route.handler
        for middleware in reversed(self._app.middlewares):
            handler = partial(middleware, handler=handler)
        return match, handler
