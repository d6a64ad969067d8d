"""`/healthz`, `/metrics`, `/openapi.json` and `/`."""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway.http.console import pages
from gateway.http.receivers.elasticsearch_version import PRODUCT, VERSION, asks_for_version
from gateway.http.request.admission import recheck
from gateway.http.request.context import CONTEXT
from gateway.http.response.accept import best_kind
from gateway.http.response.problem import json_response

# Body of `/openapi.json`.
OPENAPI: web.AppKey[bytes] = web.AppKey("openapi", bytes)
_FORMATS = ("text/plain", "application/openmetrics-text")
_INDEX = """The audit log gateway.

  GET  /v1/stream     live events: WebSocket, text/event-stream or application/x-ndjson
  GET  /v1/events     a page of events
  POST /v1/events     send events
  GET  /openapi.json  the whole interface
"""


async def index(request: web.Request) -> web.Response:
    """The console for a browser, else what is where; for a program, what clients of Elasticsearch
    look for first."""
    if asks_for_version(request):
        return json_response(VERSION, headers=PRODUCT | {"Vary": "Accept"})
    if pages.wants_page(request):
        return pages.page(request)
    return web.Response(text=_INDEX, headers={"Vary": "Accept"})


async def healthz(request: web.Request) -> web.Response:
    """Answer 200 while the process is alive."""
    return web.Response(text="ok\n")


async def metrics(request: web.Request) -> web.Response:
    """The metrics of all workers; those of others are up to a second old."""
    context = request.app[CONTEXT]
    # The most common format for clients that accept neither.
    kind = best_kind(request, _FORMATS) or _FORMATS[0]
    required = context.settings.metrics.require
    if required != "none":
        await context.admission.admit(request, required)
    async with context.scrape:
        context.metrics.update(context)
        # On a thread: it takes milliseconds.
        consumers = await context.consumer_watch.numbers()
        destinations = await context.deliveries.numbers()
        body, media_type = await asyncio.to_thread(
            context.metrics.exposition, kind, consumers, destinations
        )
    await recheck(request)
    return web.Response(body=body, headers={"Content-Type": media_type, "Vary": "Accept"})


async def openapi(request: web.Request) -> web.Response:
    return web.Response(body=request.app[OPENAPI], content_type="application/json")
