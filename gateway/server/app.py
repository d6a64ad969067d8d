"""The aiohttp application: routes and nothing else."""

from __future__ import annotations

from aiohttp import web

from gateway.server import (
    authz,
    document,
    events,
    findings,
    health,
    history,
    keys,
    openapi,
    roles,
    stream,
    tickets,
    usage,
)
from gateway.server.address import TRUSTED_PROXIES
from gateway.server.context import CONTEXT, Context
from gateway.server.problem import problems
from gateway.server.uses import recording


def make_app(context: Context) -> web.Application:
    """The application over the parts of a running gateway."""
    app = web.Application(
        middlewares=[problems, recording(context.record, context.usage, context.clock)]
    )
    app[CONTEXT] = context
    app[TRUSTED_PROXIES] = context.settings.server.trusted_proxies
    app.router.add_get("/", health.index)
    app.router.add_get("/healthz", health.healthz)
    app.router.add_get("/readyz", health.readyz)
    app.router.add_get("/metrics", health.metrics)
    app.router.add_get("/openapi.json", openapi.openapi)
    app.router.add_post("/v1/events", events.ingest)
    app.router.add_get("/v1/events", events.pull, allow_head=False)
    app.router.add_get("/v1/events/{id:.+}", events.by_id, allow_head=False)
    app.router.add_get("/v1/stream", stream.stream, allow_head=False)
    app.router.add_post("/v1/stream", stream.stream_post)
    app.router.add_post("/v1/tickets", tickets.create)
    app.router.add_get("/v1/keys", keys.list_all, allow_head=False)
    app.router.add_post("/v1/keys", keys.create)
    app.router.add_get("/v1/keys/{id}", keys.show, allow_head=False)
    app.router.add_post("/v1/keys/{id}/revoke", keys.revoke)
    app.router.add_post("/v1/keys/{id}/suspend", keys.suspend)
    app.router.add_post("/v1/keys/{id}/resume", keys.resume)
    app.router.add_post("/v1/keys/{id}/rotate", keys.rotate)
    app.router.add_get("/v1/keys/{id}/document", document.document, allow_head=False)
    app.router.add_get("/v1/keys/{id}/history", history.history, allow_head=False)
    app.router.add_get("/v1/keys/{id}/usage", usage.show, allow_head=False)
    app.router.add_get("/v1/findings", findings.list_all, allow_head=False)
    app.router.add_post("/v1/findings/{id}/expected", findings.expect)
    app.router.add_delete("/v1/findings/{id}/expected", findings.no_longer_expect)
    app.router.add_post("/v1/authz/explain", authz.explain_access)
    app.router.add_post("/v1/authz/simulate", authz.simulate)
    app.router.add_get("/v1/roles", roles.list_all, allow_head=False)
    app.router.add_get("/v1/roles/{name}", roles.show, allow_head=False)
    app.router.add_put("/v1/roles/{name}", roles.put)
    app.router.add_delete("/v1/roles/{name}", roles.delete)
    return app
