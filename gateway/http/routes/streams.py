"""`/v1/streams`: the live streams of all processes, and the end of one by an operator."""

from __future__ import annotations

import msgspec
from aiohttp import web

from gateway.access.grants.mask import Masks, copies_of, masked_data
from gateway.access.keys.change import key_urn
from gateway.access.keys.lifecycle import check_reason
from gateway.errors import Forbidden
from gateway.fleet.live_streams import LiveStreamAnswer
from gateway.http.query.bodies import ReasonBody
from gateway.http.query.streams import parse_streams
from gateway.http.request.admission import Admission
from gateway.http.request.body import optional_body
from gateway.http.request.context import Context
from gateway.http.response.problem import json_response
from gateway.oversight.review.record_masks import access_log_masks

_OPERATORS = "ops.read"
_ROW_BYTES = 1024


async def list_all(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/streams`: of all keys with `ops.read`, else of the asking key.

    Addresses, clients and parameters have the masks of the caller on the access log. What is hidden
    does not decide which streams are shown.
    """
    query, own = parse_streams(request.query.items()), admission.key.id
    if admission.action != _OPERATORS:
        if query.key not in (None, own):
            raise Forbidden(
                "streams of other keys are shown to keys with a grant of ops.read",
                code="action_not_granted",
                action=_OPERATORS,
            )
        query = msgspec.structs.replace(query, key=own)
    grants = admission.grants
    admission.holding(request).take(query.limit * _ROW_BYTES)
    found = await context.live_streams.all(query, own)
    shown: list[LiveStreamAnswer] = []
    of_key: dict[str, Masks] = {}
    async for stream in context.work.slices(own).each(found.streams):
        masks = of_key.get(stream.key)
        if masks is None:
            masks = of_key[stream.key] = access_log_masks(grants, stream.key)
        if query.tenant is None or not masks.hides("data.parameters"):
            shown.append(_masked(stream, masks))
    if query.tenant is not None and any(one.fields or one.effect == "deny" for one in grants):
        # How many there are would tell of what is hidden.
        found.total = len(shown)
    found.streams = shown
    await admission.recheck()
    return json_response(found)


async def end(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/streams/{id}/end`: of any process, which records it."""
    body = await optional_body(request, ReasonBody)
    reason = check_reason(body.reason)
    await admission.recheck()
    stream = await context.live_streams.end(request.match_info["id"], reason, admission.key.id)
    admission.access.about = key_urn(stream.key)
    return json_response(_masked(stream, access_log_masks(admission.grants, stream.key)))


def _masked(stream: LiveStreamAnswer, masks: Masks) -> LiveStreamAnswer:
    """The stream without what the masks hide of the records of its use."""
    peer = {"address": stream.address, "client": stream.client}
    seen = masked_data(peer, copies_of(masks))
    stream.address, stream.client = seen.get("address"), seen.get("client")
    if masks.hides("data.parameters"):
        stream.parameters = None
    return stream
