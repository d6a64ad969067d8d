"""The aiohttp application: routes and nothing else."""

from __future__ import annotations

from functools import wraps

from aiohttp import web

from gateway.http.connection.address import TRUSTED_PROXIES
from gateway.http.connection.connections import bounding
from gateway.http.openapi import document as openapi
from gateway.http.query.query import refuse_parameters
from gateway.http.request.access_logging import access_logging
from gateway.http.request.context import CONTEXT, Context
from gateway.http.request.origin import add_cors_headers, preflights
from gateway.http.response.problem import REPORT, Handler, problems
from gateway.http.routes import (
    authz,
    document,
    events,
    findings,
    health,
    history,
    ingest,
    keys,
    roles,
    stream,
    tickets,
    usage,
)


def _bare(handler: Handler) -> Handler:
    """A handler of requests without parameters in the URL."""

    @wraps(handler)
    async def checked(request: web.Request) -> web.StreamResponse:
        refuse_parameters(request.query.items())
        return await handler(request)

    return checked


def make_app(context: Context) -> web.Application:
    """The application over the parts of a running gateway."""
    app = web.Application(
        middlewares=[
            problems,
            bounding(context.connections),
            preflights,
            access_logging(context.access_log, context.usage, context.clock),
        ]
    )
    if context.settings.server.allowed_origins:
        app.on_response_prepare.append(add_cors_headers)
    app[CONTEXT] = context
    app[REPORT] = context.tasks.report
    app[TRUSTED_PROXIES] = context.settings.server.trusted_proxies
    app.router.add_get("/", health.index)
    app.router.add_get("/healthz", health.healthz)
    app.router.add_get("/readyz", health.readyz)
    app.router.add_get("/metrics", health.metrics)
    app.router.add_get("/openapi.json", openapi.openapi)
    app.router.add_post("/v1/events", ingest.ingest)
    app.router.add_get("/v1/events", events.pull, allow_head=False)
    app.router.add_get("/v1/events/{id:.+}", events.by_id, allow_head=False)
    app.router.add_get("/v1/stream", stream.stream, allow_head=False)
    app.router.add_post("/v1/stream", stream.stream_post)
    app.router.add_post("/v1/tickets", _bare(tickets.create))
    app.router.add_get("/v1/keys", _bare(keys.list_all), allow_head=False)
    app.router.add_post("/v1/keys", _bare(keys.create))
    app.router.add_get("/v1/keys/{id}", _bare(keys.show), allow_head=False)
    app.router.add_post("/v1/keys/{id}/revoke", _bare(keys.revoke))
    app.router.add_post("/v1/keys/{id}/suspend", _bare(keys.suspend))
    app.router.add_post("/v1/keys/{id}/resume", _bare(keys.resume))
    app.router.add_post("/v1/keys/{id}/rotate", _bare(keys.rotate))
    app.router.add_get("/v1/keys/{id}/document", _bare(document.document), allow_head=False)
    app.router.add_get("/v1/keys/{id}/history", history.history, allow_head=False)
    app.router.add_get("/v1/keys/{id}/usage", usage.show, allow_head=False)
    app.router.add_get("/v1/findings", findings.list_all, allow_head=False)
    app.router.add_post("/v1/findings/{id}/expected", _bare(findings.expect))
    app.router.add_delete("/v1/findings/{id}/expected", _bare(findings.no_longer_expect))
    app.router.add_post("/v1/authz/explain", _bare(authz.explain_access))
    app.router.add_post("/v1/authz/simulate", _bare(authz.simulate))
    app.router.add_get("/v1/roles", _bare(roles.list_all), allow_head=False)
    app.router.add_get("/v1/roles/{name}", _bare(roles.show), allow_head=False)
    app.router.add_put("/v1/roles/{name}", _bare(roles.put))
    app.router.add_delete("/v1/roles/{name}", _bare(roles.delete))
    return app
