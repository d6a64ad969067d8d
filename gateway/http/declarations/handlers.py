"""`/v1/declarations/{set}` and the schema of files of declarations."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
from aiohttp import web

from gateway.access.credentials.pepper import Pepper
from gateway.declarations.administration import DeclarationAdministration
from gateway.declarations.applied import answer_of
from gateway.declarations.declared_destinations import DeclaredDestinations
from gateway.declarations.plan import AffectedStream, DeclarationPlan
from gateway.declarations.reading import MOST_BYTES, invalid
from gateway.declarations.schema import shipped_schema
from gateway.errors import Forbidden, InvalidRequest
from gateway.fleet.live_streams import LiveStreamQuery
from gateway.http.declarations.parameters import parse_declaration_query
from gateway.http.request.admission import Admission
from gateway.http.request.body import media_type, read_body
from gateway.http.request.context import Context
from gateway.http.request.delegation import administration_by, issuer_of
from gateway.http.request.delivery import destinations_by
from gateway.http.response.problem import json_response
from gateway.json_members import refuse_repeated

_SCHEMA_TYPE = "application/schema+json"
_MOST_STREAMS = 10_000
_DESTINATIONS = "destinations.admin"


async def schema(request: web.Request) -> web.Response:
    """`GET /declaration.schema.json`, for editors, which have no key."""
    return web.Response(body=shipped_schema(), content_type=_SCHEMA_TYPE)


async def apply(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/declarations/{set}`: on return streams that narrow have narrowed, and others have
    ended. With `dry_run=true` the plan, and nothing changes."""
    asked = parse_declaration_query(request.query.items())
    raw = await _declared_set(request, context, admission)
    administration = _declarations_by(context, admission, raw)
    if asked.dry_run:
        plan = await administration.plan(raw, prune=asked.prune)
        streams = await _affected(context, admission, plan)
        await admission.recheck()
        return json_response(answer_of(plan, None, streams))
    applied = await administration.apply(
        raw, prune=asked.prune, expect=asked.expect, hold=asked.hold
    )
    streams = await _affected(context, admission, applied.plan)
    await context.enforcement.poll()
    if applied.plan.destinations:
        await context.deliveries.poll()
    return json_response(answer_of(applied.plan, applied, streams))


async def _declared_set(
    request: web.Request, context: Context, admission: Admission
) -> dict[str, Any]:
    """Decoded set of the body. It is large: decoded on a thread."""
    media_type(request, ("application/json",))
    body = await read_body(
        request, most=MOST_BYTES, seconds=context.settings.server.body_timeout,
        holding=admission.holding(request),
    )  # fmt: skip
    raw, name = await asyncio.to_thread(_decoded, body), request.match_info["set"]
    if not isinstance(raw, dict):
        raise invalid("an object of `set`, `roles`, `keys` and `destinations` is needed")
    if raw.setdefault("set", name) != name:
        raise invalid("it is another one in the path", "set")
    return raw


def _decoded(body: bytes) -> Any:
    try:
        decoded = msgspec.json.decode(body)
        json.loads(body.decode(), object_pairs_hook=refuse_repeated)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}", code="malformed_json") from None
    return decoded


def _declarations_by(
    context: Context, admission: Admission, raw: dict[str, Any]
) -> DeclarationAdministration:
    """Administration of declared sets on behalf of an admitted key. Destinations are for keys that
    may administer them; for others they are not there."""

    async def pepper() -> Pepper:
        return context.keyring.peppers.current

    issuer = issuer_of(context, admission)
    may = admission.view_of(_DESTINATIONS) is not None
    if raw.get("destinations") and not may:
        raise Forbidden(
            "destinations: they are declared with a grant of destinations.admin",
            code="action_not_granted",
            action=_DESTINATIONS,
        )
    destinations = DeclaredDestinations(
        issuer, destinations_by(context, admission), context.clock, pepper
    )
    return DeclarationAdministration(
        issuer, administration_by(context, admission), context.key_store, context.clock,
        context.settings.keys, destinations if may else None,
        context.work.slices(admission.key.id),
    )  # fmt: skip


async def _affected(
    context: Context, admission: Admission, plan: DeclarationPlan
) -> list[AffectedStream]:
    """Live streams that a plan concerns, for keys that may see those of others."""
    concerned = plan.narrowed | plan.ended
    if not concerned or admission.view_of("ops.read") is None:
        return []
    found = await context.live_streams.all(LiveStreamQuery(limit=_MOST_STREAMS))
    return [
        AffectedStream(
            id=one.id, key=one.key, name=one.name,
            effect="ends" if one.key in plan.ended else "narrows",
        )
        for one in found.streams if one.key in concerned
    ]  # fmt: skip
