"""`/v1/findings`: findings of the anomaly detector."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from aiohttp import web

from gateway.access.keys.change import key_urn
from gateway.access.keys.lifecycle import check_reason
from gateway.errors import NotFound
from gateway.http.connection.address import client_address
from gateway.http.query.bodies import ReasonBody
from gateway.http.query.query import parse_findings
from gateway.http.request.admission import Admission
from gateway.http.request.body import optional_body
from gateway.http.request.context import Context
from gateway.http.request.delegation import refuse_own_finding
from gateway.http.request.listing import listed
from gateway.http.response.problem import json_response
from gateway.oversight.detection.finding import FindingAnswer
from gateway.oversight.review.record_masks import masked_finding


@listed("findings")
async def list_all(
    request: web.Request, context: Context, admission: Admission
) -> AsyncGenerator[FindingAnswer]:
    """`GET /v1/findings`: newest first; filters `key`, `signal` and `state`."""
    wanted, limit = parse_findings(request.query.items())
    grants, slices = admission.grants, context.work.slices(admission.key.id)
    async for finding in slices.each(await context.detector.findings.all()):
        seen = masked_finding(grants, finding)
        if all(getattr(seen, name) == value for name, value in wanted.items()):
            yield seen
            limit -= 1
            if not limit:
                return


async def mark(
    request: web.Request, context: Context, admission: Admission, *, expected: bool
) -> web.Response:
    """`POST /v1/findings/{id}/expected`: silence that signal for that key; `DELETE`: no longer."""
    finding_id = request.match_info["id"]
    body = await optional_body(request, ReasonBody)
    known = await context.detector.findings.get(finding_id)
    if known is not None:
        if known.key:
            admission.access.about = key_urn(known.key)
        address = client_address(request)
        await refuse_own_finding(context, admission, known, address, expected=expected)
    await admission.recheck()
    finding = await context.detector.findings.mark(
        finding_id, expected=expected, by=admission.key.id, reason=check_reason(body.reason)
    )
    if finding is None:
        raise NotFound("there is no finding with this id", code="unknown_finding")
    return json_response(masked_finding(admission.grants, finding))
