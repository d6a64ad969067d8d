"""The aiohttp application: middlewares, and the routes of the table."""

from __future__ import annotations

import orjson
from aiohttp import web

from gateway.http.connection.address import BASIC_OVER_HTTP, TRUSTED_PROXIES, takes_basic
from gateway.http.connection.connections import Connections, bounding
from gateway.http.credentials.guard import SERVER_NAMES
from gateway.http.intake.single_events import SINGLE_EVENTS, SingleEvents
from gateway.http.openapi.document import document
from gateway.http.openapi.route import Route
from gateway.http.query.query import refuse_unknown
from gateway.http.receivers.ack_ids import AckIds
from gateway.http.receivers.splunk_hec import ACK_IDS
from gateway.http.request.access_logging import access_logging
from gateway.http.request.context import CONTEXT, Context
from gateway.http.request.origin import add_cors_headers, preflights
from gateway.http.response.problem import RENDERERS, REPORT, Handler, problems
from gateway.http.routes.health import OPENAPI
from gateway.http.routes.table import ROUTES

DOCUMENT = document(ROUTES)
_DOCUMENT_JSON = orjson.dumps(DOCUMENT)


def make_app(context: Context) -> web.Application:
    """Make the application over the parts of a running gateway."""
    apart = ("metrics",) if context.settings.metrics.port else ()
    routes = [route for route in ROUTES if route.name not in apart]
    app = _app(context, routes, context.connections)
    app[SINGLE_EVENTS] = SingleEvents(context)
    return app


def make_metrics_app(context: Context, connections: Connections) -> web.Application:
    """Make the application of the listener for metrics alone."""
    return _app(context, [route for route in ROUTES if route.name == "metrics"], connections)


def _app(context: Context, routes: list[Route], connections: Connections) -> web.Application:
    app = web.Application(
        middlewares=[
            problems(context.requests, context.clock, takes_basic),
            bounding(connections),
            preflights,
            access_logging(context.access_log, context.usage, context.clock),
        ]
    )
    if context.settings.server.allowed_origins:
        app.on_response_prepare.append(add_cors_headers)
    app[CONTEXT] = context
    app[OPENAPI] = _DOCUMENT_JSON
    app[ACK_IDS] = AckIds(context.keyed, context.clock.now)
    app[REPORT] = context.tasks.report
    app[TRUSTED_PROXIES] = context.settings.server.trusted_proxies
    app[SERVER_NAMES] = context.settings.server.names
    app[BASIC_OVER_HTTP] = context.settings.server.basic == "always"
    app[RENDERERS] = {
        f"{route.method} {route.documented_path}": route.refusals_as.render
        for route in routes
        if route.refusals_as is not None
    }
    for route in routes:
        if route.public and route.method == "GET":
            app.router.add_route("HEAD", route.path, route.handler)
        app.router.add_route(route.method, route.path, _handler(route))
    return app


def _handler(route: Route) -> Handler:
    """Handler of a route that first admits the key, and then refuses query parameters which the
    table does not have."""
    handler, actions, known = route.handler, route.actions, frozenset(route.query)
    viewers = route.for_viewers
    if not route.for_keys or not route.admitted:
        return handler

    async def admitted(request: web.Request) -> web.StreamResponse:
        context = request.app[CONTEXT]
        if viewers:
            admission = await context.admission.admit_reader(request, *actions)
        else:
            admission = await context.admission.admit(request, *actions)
        if request.query and not known.issuperset(request.query):
            refuse_unknown(request.query, route.query)
        return await handler(request, context, admission)

    return admitted
