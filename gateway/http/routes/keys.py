"""`/v1/keys`: making and looking at keys, and what changes them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import orjson
from aiohttp import web

from gateway.access.administration.administration import IssuedKey
from gateway.access.keys.issuance import parse_key_request
from gateway.access.keys.key import Key
from gateway.access.keys.lifecycle import check_reason
from gateway.errors import InvalidRequest
from gateway.http.request.admission import Admission
from gateway.http.request.body import json_body
from gateway.http.request.context import CONTEXT, Context
from gateway.http.request.delegation import administration_by, authorize_administration
from gateway.http.request.listing import listing
from gateway.http.request.named_key import last_use, named_key
from gateway.http.response.problem import json_response


async def create(request: web.Request) -> web.Response:
    """`POST /v1/keys`: 201 with the key itself, here and never again."""
    context, administration = await authorize_administration(request)
    body = await json_body(request)
    issued = await administration.create(parse_key_request(body, context.settings.keys))
    return await _shown_once(context, issued)


async def list_all(request: web.Request) -> web.StreamResponse:
    """`GET /v1/keys`: oldest first."""
    context = request.app[CONTEXT]
    admission = await context.admission.admit(request, "keys.admin")
    return await listing(request, "keys", _listed(context, admission), admission)


async def _listed(context: Context, admission: Admission) -> AsyncGenerator[bytes]:
    now, administration = context.clock.now(), administration_by(context, admission.key)
    async for key in administration.all_keys(admission.holding.take):
        yield orjson.dumps(key.public(now))


async def show(request: web.Request) -> web.Response:
    """`GET /v1/keys/{id}`."""
    context = request.app[CONTEXT]
    admission = await context.admission.admit(request, "keys.admin")
    key = await named_key(request)
    shown = {
        **key.public(context.clock.now()),
        "streams": len(context.hub.streams_of(key.id)),
        "last_used": await last_use(context, admission, key.id),
    }
    await admission.recheck()
    return json_response(shown)


async def revoke(request: web.Request) -> web.Response:
    """`POST /v1/keys/{id}/revoke`: the key's streams have ended when this returns, and with
    `with_descendants` those of all that came of it. Else the answer names what of that lives on.
    """
    context, administration = await authorize_administration(request)
    body = await _optional_body(request, {"reason": "..", "with_descendants": True})
    with_descendants = body.get("with_descendants", False)
    if not isinstance(with_descendants, bool):
        raise InvalidRequest("with_descendants: true or false")
    revocation = await administration.revoke(
        request.match_info["id"], body.get("reason", ""), with_descendants=with_descendants
    )
    await context.enforcement.poll_keys()
    return json_response(revocation.public())


async def suspend(request: web.Request) -> web.Response:
    """`POST /v1/keys/{id}/suspend`: likewise, until it is resumed."""
    context, administration = await authorize_administration(request)
    body = await _optional_body(request, {"reason": ".."})
    key = await administration.suspend(request.match_info["id"], body.get("reason", ""))
    return await _changed(context, key)


async def resume(request: web.Request) -> web.Response:
    """`POST /v1/keys/{id}/resume`: for whoever could have made the key."""
    context, administration = await authorize_administration(request)
    body = await _optional_body(request, {"reason": ".."})
    check_reason(body.get("reason", ""))
    return await _changed(context, await administration.resume(request.match_info["id"]))


async def rotate(request: web.Request) -> web.Response:
    """`POST /v1/keys/{id}/rotate`: 201 with the successor; the old key drains."""
    context, administration = await authorize_administration(request)
    body = await _optional_body(request, {"overlap": "1h"})
    issued = await administration.rotate(request.match_info["id"], body.get("overlap", "1h"))
    return await _shown_once(context, issued)


async def _optional_body(request: web.Request, example: dict[str, Any]) -> dict[str, Any]:
    """The body, which may be left out, with members of the example."""
    body = await json_body(request) if request.can_read_body else {}
    if not isinstance(body, dict) or set(body) - set(example):
        raise InvalidRequest(f"the body may be {json.dumps(example)}")
    return body


async def _changed(context: Context, key: Key) -> web.Response:
    await context.enforcement.poll_keys()
    return json_response(key.public(context.clock.now()))


async def _shown_once(context: Context, issued: IssuedKey) -> web.Response:
    await context.enforcement.poll_keys()
    location = f"/v1/keys/{issued.key.id}"
    return json_response(issued.public(), status=201, headers={"Location": location})
