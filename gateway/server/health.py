"""`/healthz`, `/readyz`, `/metrics` and `/`."""

from __future__ import annotations

from aiohttp import web

from gateway.errors import Unavailable
from gateway.server.context import CONTEXT

_INDEX = """The audit log gateway.

  GET  /v1/stream     live events: WebSocket, text/event-stream or application/x-ndjson
  GET  /v1/events     a page of events
  POST /v1/events     send events
  GET  /openapi.json  the whole interface
"""


async def index(request: web.Request) -> web.Response:
    return web.Response(text=_INDEX)


async def healthz(request: web.Request) -> web.Response:
    """The process is alive: nothing else is asked."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """The gateway takes requests: it has started, and is not stopping."""
    if not request.app[CONTEXT].ready:
        raise Unavailable("starting or stopping", code="not_ready", retry_after=1)
    return web.Response(text="ready\n")


async def metrics(request: web.Request) -> web.Response:
    """The figures of all workers; those of others are up to a second old."""
    context = request.app[CONTEXT]
    context.figures.keep(context)
    return web.Response(
        body=context.figures.text().encode(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )
