"""`/v1/keys`: key administration."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from gateway.errors import InvalidRequest, NotFound
from gateway.keys.provisioning import key_from_request
from gateway.keys.token import is_key_id
from gateway.server.body import media_type, read_body
from gateway.server.context import CONTEXT
from gateway.server.problem import json_response

_BODY_BYTES = 64 * 1024
_BODY_SECONDS = 10.0


async def create(request: web.Request) -> web.Response:
    """`POST /v1/keys`: 201 with the key itself, here and never again."""
    context = request.app[CONTEXT]
    await context.authenticator.authorize(request, "keys.admin")
    settings = context.settings.keys
    now = context.clock.now()
    key, token = key_from_request(
        await _json_body(request),
        now=now,
        default_life=settings.default_life,
        max_life=settings.max_life,
        pepper=context.pepper,
    )
    await context.key_store.create(key)
    shown = {"id": key.id, "key": token, **key.public(now)}
    return json_response(shown, status=201, headers={"Location": f"/v1/keys/{key.id}"})


async def list_all(request: web.Request) -> web.Response:
    """`GET /v1/keys`."""
    context = request.app[CONTEXT]
    await context.authenticator.authorize(request, "keys.admin")
    now = context.clock.now()
    return json_response({"keys": [key.public(now) for key in await context.key_store.all()]})


async def show(request: web.Request) -> web.Response:
    """`GET /v1/keys/{id}`."""
    context = request.app[CONTEXT]
    await context.authenticator.authorize(request, "keys.admin")
    key = await context.key_store.get(_key_id(request))
    if key is None:
        raise _unknown()
    return json_response(
        {**key.public(context.clock.now()), "streams": len(context.hub.streams_of(key.id))}
    )


async def revoke(request: web.Request) -> web.Response:
    """`POST /v1/keys/{id}/revoke`: the key's streams have ended when this returns."""
    context = request.app[CONTEXT]
    await context.authenticator.authorize(request, "keys.admin")
    body = await _json_body(request) if request.can_read_body else {}
    reason = body.get("reason", "") if isinstance(body, dict) else None
    if not isinstance(reason, str) or len(reason) > 256:
        raise InvalidRequest("reason: a string of at most 256 characters")
    now = context.clock.now()
    key = await context.key_store.revoke(_key_id(request), now, reason)
    if key is None:
        raise _unknown()
    await context.key_watch.look()
    shown = key.public(now)
    return json_response({member: shown[member] for member in ("id", "state", "revoked_at")})


async def _json_body(request: web.Request) -> Any:
    media_type(request, ("application/json",))
    body = await read_body(request, most=_BODY_BYTES, seconds=_BODY_SECONDS)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}", code="malformed_json") from None


def _key_id(request: web.Request) -> str:
    key_id = request.match_info["id"]
    if not is_key_id(key_id):
        raise _unknown()
    return key_id


def _unknown() -> NotFound:
    return NotFound("there is no key with this id", code="unknown_key")
