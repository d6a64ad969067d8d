"""`/healthz`, `/readyz`, `/metrics`, `/openapi.json` and `/`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from aiohttp import web

from gateway.errors import Unavailable
from gateway.http.console import pages
from gateway.http.receivers.elasticsearch_version import PRODUCT, VERSION, asks_for_version
from gateway.http.request.admission import recheck
from gateway.http.request.context import CONTEXT, Context
from gateway.http.response.accept import best_kind
from gateway.http.response.problem import json_response
from gateway.ingest.followed_table import FollowedTable
from gateway.oversight.clock_watch import step_warning
from gateway.settings.server import PLAIN_TEXT_WARNING
from gateway.trusted_clock import TrustedClock

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


async def readyz(request: web.Request) -> web.Response:
    """Answer 200 if the gateway has started, is not stopping, and has its store."""
    context = request.app[CONTEXT]
    if (failure := context.tasks.failure) is not None:
        raise Unavailable(failure.detail, code=failure.code, retry_after=2)
    if not context.ready:
        raise Unavailable("starting or stopping", code="not_ready", retry_after=1)
    if (degraded_reason := context.degraded_reason) is not None:
        raise Unavailable(
            degraded_reason.detail,
            code=degraded_reason.code,
            retry_after=degraded_reason.retry_after,
        )
    lines = [
        "ready",
        *_about_clock(context.clock),
        *context.missing_peppers.lines(),
        *_about_followed(context.followed),
        *_about_tls(context),
        "",
    ]
    return web.Response(text="\n".join(lines))


def _about_clock(clock: TrustedClock) -> Iterator[str]:
    if clock.waiting is not None:
        yield step_warning(clock.offset)


def _about_followed(table: FollowedTable | None) -> Iterator[str]:
    """Problems of a followed table, which do not affect anything else."""
    if table is None:
        return
    if table.degraded_reason is not None:
        yield f"{table.name} is not followed: {table.degraded_reason.detail}"
    elif (waits := table.waits) is not None:
        whom = "a transaction" if waits.pid is None else f"the transaction of process {waits.pid}"
        yield f"rows of {table.name} have been waiting for {waits.seconds:.0f} s for {whom}"


def _about_tls(context: Context) -> Iterator[str]:
    """Problems of TLS, with which the gateway serves on."""
    if context.settings.server.is_readable_on_the_way:
        yield PLAIN_TEXT_WARNING
    if context.certificates is not None:
        yield from context.certificates.warnings()


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
