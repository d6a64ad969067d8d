"""`/readyz` and `/v1/status`: whether one process, and the whole gateway, works."""

from __future__ import annotations

from aiohttp import web

from gateway.errors import Unavailable
from gateway.fleet.health import ReadinessAnswer, reasons_of
from gateway.http.request.admission import Admission
from gateway.http.request.context import CONTEXT, Context
from gateway.http.response.accept import best_kind
from gateway.http.response.answer import Answer
from gateway.http.response.problem import json_response

_READINESS = ("text/plain", "application/json")


async def readyz(request: web.Request) -> Answer | web.Response:
    """Answer 200 if the gateway has started, is not stopping, and has its store; with what is wrong
    all the same, as text or JSON."""
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
    faults = context.health.faults()
    headers = {"Vary": "Accept"}
    if best_kind(request, _READINESS) == _READINESS[1]:
        reasons = reasons_of(("", one) for one in faults)
        return json_response(ReadinessAnswer(ready=True, reasons=reasons), headers=headers)
    text = "\n".join(("ready", *(one.detail for one in faults), ""))
    return web.Response(text=text, headers=headers)


async def status(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/status`: health of all workers and replicas."""
    found = await context.health.status(admission.key.id)
    await admission.recheck()
    return json_response(found)
