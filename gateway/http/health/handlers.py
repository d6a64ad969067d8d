"""`/readyz`, `/v1/status` and `/v1/doctor`: whether one process, and the whole gateway, works."""

from __future__ import annotations

from aiohttp import web

from gateway.clock import parse_rfc3339
from gateway.errors import Unavailable
from gateway.fleet.health import REASONS, ReadinessAnswer, reasons_of
from gateway.health.collect import (
    SILENT_CONSUMER,
    descriptors,
    file_facts,
    newest_backup,
    tally_keys,
)
from gateway.health.doctor import DoctorFacts, ReasonFact, examine
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


async def doctor(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/doctor`: checks of how the gateway is set up, from this process and its stores."""
    by, now = admission.key.id, context.clock.now()
    status = await context.health.status(by)
    slices = context.work.slices(by)
    tally = await tally_keys(context.key_store, slices, now)
    silent = [
        one
        for one in await context.detector.findings.all()
        if one.state == "open" and one.signal == SILENT_CONSUMER
    ]
    log = status.log
    facts = DoctorFacts(
        now=now, settings=context.settings,
        files=await slices.in_thread(lambda: file_facts(context.settings)),
        looked_for=frozenset(REASONS),
        reasons=[ReasonFact(one.code, one.detail) for one in status.reasons],
        key_tally=tally, log_span=_span(log.oldest_at, log.newest_at),
        backup_at=await newest_backup(context.key_store), descriptors=descriptors(),
        gateways=status.gateways,
        lags={one.name: one.lag_seconds for one in status.destinations},
        findings=status.findings.open, silent_consumers=len(silent),
    )  # fmt: skip
    answer = examine(facts)
    await admission.recheck()
    return json_response(answer)


def _span(oldest: str | None, newest: str | None) -> float | None:
    """Seconds between two moments."""
    if oldest is None or newest is None:
        return None
    return parse_rfc3339(newest) - parse_rfc3339(oldest)
