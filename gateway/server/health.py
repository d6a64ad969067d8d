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
    """Prometheus text exposition format, version 0.0.4."""
    context = request.app[CONTEXT]
    totals, log = context.hub.totals, context.log
    rows = (
        ("streams", "gauge", "Open streams.", len(context.hub.subscriptions)),
        ("streams_opened_total", "counter", "Streams opened.", totals.opened),
        ("streams_ended_total", "counter", "Streams ended.", totals.ended),
        ("delivered_events_total", "counter", "Events written to streams.", totals.events),
        ("delivered_bytes_total", "counter", "Bytes of events written to streams.", totals.bytes),
        ("demotions_total", "counter", "Streams that fell behind and went on from the store.",
         totals.demotions),
        ("log_head_offset", "gauge", "Newest offset of the log.", log.head),
        ("log_floor_offset", "gauge", "Newest offset deleted by retention.", log.floor),
        ("tail_lag_events", "gauge", "Events not yet handed to live streams.",
         log.head - context.hub.position),
    )  # fmt: skip
    lines = []
    for name, kind, about, value in rows:
        lines += [
            f"# HELP audit_gateway_{name} {about}",
            f"# TYPE audit_gateway_{name} {kind}",
            f"audit_gateway_{name} {value}",
        ]
    return web.Response(
        body="\n".join([*lines, ""]).encode(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )
