"""`/v1/keys`: creation, display, use and changes of keys."""

from __future__ import annotations

from aiohttp import web
from msgspec import UNSET, structs

from gateway.access.administration.answers import IssuedKey
from gateway.access.administration.key_patch import parse_key_patch
from gateway.access.keys.issuance import parse_key_request
from gateway.access.keys.key import Key
from gateway.access.keys.key_lookup import known_key
from gateway.http.keys.precondition import PATCH_TYPES, etag, required_match
from gateway.http.query.bodies import OverlapBody, ReasonBody, ReviewedBody, RevocationBody
from gateway.http.query.query import parse_usage
from gateway.http.request.admission import Admission
from gateway.http.request.body import json_body, optional_body
from gateway.http.request.context import Context
from gateway.http.request.delegation import administration_by
from gateway.http.request.named_key import last_use, named_key
from gateway.http.response.answers import KeyInUse, UsageRows
from gateway.http.response.problem import json_response


async def create(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/keys`: 201 with the key, which is never shown again."""
    administration = administration_by(context, admission)
    body = await json_body(request)
    issued = await administration.create(parse_key_request(body, context.settings.keys))
    return await _shown_once(context, issued)


async def show(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/keys/{id}`."""
    key = await named_key(request)
    shown = KeyInUse(
        **structs.asdict(key.public(context.clock.now())),
        streams=len(context.hub.streams_of(key.id)),
        last_used=await last_use(context, admission, key.id),
    )
    await admission.recheck()
    return json_response(shown, headers={"ETag": etag(key)})


async def change(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`PATCH /v1/keys/{id}`: on return the key's streams have narrowed or ended."""
    administration = administration_by(context, admission)
    raw = await json_body(request, PATCH_TYPES)
    check = required_match(request)
    changed = await administration.change(request.match_info["id"], parse_key_patch(raw), check)
    return await _changed(context, changed)


async def usage(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/keys/{id}/usage?window=24h&step=1h`: requests, streams, events, bytes, denials."""
    key_id = request.match_info["id"]
    await known_key(context.key_store, key_id)
    window, step = parse_usage(request.query.items())
    rows = await context.usage.rows(key_id, window, step)
    await admission.recheck()
    return json_response(UsageRows(key_id, [row.public() for row in rows]))


async def revoke(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/keys/{id}/revoke`: on return the key's streams have ended, and those of its
    descendants if `with_descendants`; else the answer names the descendants that live on."""
    administration = administration_by(context, admission)
    body = await optional_body(request, RevocationBody)
    revocation = await administration.revoke(
        request.match_info["id"], body.reason, with_descendants=body.with_descendants
    )
    await context.enforcement.poll_keys()
    return json_response(revocation.public())


async def suspend(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/keys/{id}/suspend`: on return the key's streams have ended."""
    administration = administration_by(context, admission)
    body = await optional_body(request, ReasonBody)
    key = await administration.suspend(request.match_info["id"], body.reason)
    return await _changed(context, key)


async def resume(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/keys/{id}/resume`: for callers that could have made the key."""
    administration = administration_by(context, admission)
    await optional_body(request, ReasonBody)
    return await _changed(context, await administration.resume(request.match_info["id"]))


async def reviewed(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/keys/{id}/reviewed`: for callers that have no part in the key."""
    administration = administration_by(context, admission)
    body = await optional_body(request, ReviewedBody)
    return await _changed(context, await administration.review(request.match_info["id"], body.note))


async def rotate(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/keys/{id}/rotate`: 201 with the successor; the old key drains."""
    administration = administration_by(context, admission)
    body = await optional_body(request, OverlapBody)
    overlap = None if body.overlap is UNSET else body.overlap
    issued = await administration.rotate(request.match_info["id"], overlap, hold=body.hold)
    return await _shown_once(context, issued)


async def confirm(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/keys/{id}/confirm`: of a successor, or of the key that it is to replace."""
    administration = administration_by(context, admission)
    await optional_body(request, ReasonBody)
    return await _changed(context, await administration.confirm(request.match_info["id"]))


async def _changed(context: Context, key: Key) -> web.Response:
    await context.enforcement.poll_keys()
    return json_response(key.public(context.clock.now()), headers={"ETag": etag(key)})


async def _shown_once(context: Context, issued: IssuedKey) -> web.Response:
    await context.enforcement.poll_keys()
    location = f"/v1/keys/{issued.key.id}"
    return json_response(issued.public(), status=201, headers={"Location": location})
