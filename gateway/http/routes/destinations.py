"""`/v1/destinations`: outside systems that events are delivered to."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from aiohttp import web

from gateway.delivery.administration import DestinationAdministration
from gateway.delivery.answer import DeletedDeadLetters, DestinationAnswer, public_dead_letter
from gateway.delivery.definition import ReplayBody, SecretBody
from gateway.delivery.destination import Destination
from gateway.errors import Forbidden
from gateway.http.query.bodies import ReasonBody
from gateway.http.query.query import parse_dead_letters
from gateway.http.request.admission import Admission
from gateway.http.request.body import json_body, optional_body
from gateway.http.request.context import Context
from gateway.http.request.delivery import destinations_by, shown
from gateway.http.request.listing import listed
from gateway.http.response.answers import DeadLetterList
from gateway.http.response.problem import json_response
from gateway.json_members import parse_body


@listed("destinations")
async def list_all(
    request: web.Request, context: Context, admission: Admission
) -> AsyncGenerator[DestinationAnswer]:
    """`GET /v1/destinations`."""
    administration = destinations_by(context, admission)
    for destination in await administration.all():
        yield await shown(context, administration, destination)


async def show(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/destinations/{name}`."""
    administration = destinations_by(context, admission)
    found = await administration.named(request.match_info["name"])
    answer = await shown(context, administration, found)
    await admission.recheck()
    return json_response(answer)


async def create(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/destinations`."""
    administration = destinations_by(context, admission)
    made = await administration.create(await json_body(request))
    location = {"Location": f"/v1/destinations/{made.name}"}
    await context.deliveries.poll()
    return json_response(await shown(context, administration, made), status=201, headers=location)


async def change(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`PATCH /v1/destinations/{name}`."""
    administration = destinations_by(context, admission)
    changed = await administration.change(request.match_info["name"], await json_body(request))
    return await _changed(context, administration, changed)


async def delete(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`DELETE /v1/destinations/{name}`: it has stopped when this returns, here."""
    await destinations_by(context, admission).delete(request.match_info["name"])
    await context.deliveries.poll()
    return web.Response(status=204)


async def pause(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/destinations/{name}/pause`."""
    body = await optional_body(request, ReasonBody)
    administration = destinations_by(context, admission)
    paused = await administration.pause(request.match_info["name"], body.reason)
    return await _changed(context, administration, paused)


async def resume(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/destinations/{name}/resume`."""
    body = await optional_body(request, ReasonBody)
    administration = destinations_by(context, admission)
    resumed = await administration.resume(request.match_info["name"], body.reason)
    return await _changed(context, administration, resumed)


async def test(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/destinations/{name}/test`: of one that is there, or of a definition before it is
    made, which needs the right to make it."""
    name, administration = request.match_info["name"], destinations_by(context, admission)
    raw = await json_body(request) if request.can_read_body else None
    if raw:
        if admission.view_of("destinations.admin") is None:
            raise Forbidden(
                "a definition is tried with a grant of destinations.admin",
                code="action_not_granted",
                action="destinations.admin",
            )
        destination = await administration.drafted(name, raw)
    else:
        destination = await administration.named(name)
    await admission.recheck()
    return json_response(await context.deliveries.test(destination))


async def replay(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/destinations/{name}/replay`."""
    body = parse_body(await json_body(request), ReplayBody)
    administration = destinations_by(context, admission)
    return await _changed(
        context, administration, await administration.replay(request.match_info["name"], body)
    )


async def cancel_replay(
    request: web.Request, context: Context, admission: Admission
) -> web.Response:
    """`DELETE /v1/destinations/{name}/replay`."""
    administration = destinations_by(context, admission)
    cancelled = await administration.cancel_replay(request.match_info["name"])
    return await _changed(context, administration, cancelled)


async def set_secret(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`PUT /v1/destinations/{name}/secrets/{secret}`."""
    body = parse_body(await json_body(request), SecretBody)
    name, secret = request.match_info["name"], request.match_info["secret"]
    administration = destinations_by(context, admission)
    changed = await administration.set_secret(name, secret, body.value, body.overlap)
    return await _changed(context, administration, changed)


async def dead_letters(
    request: web.Request, context: Context, admission: Admission
) -> web.Response:
    """`GET /v1/destinations/{name}/dead-letters`."""
    administration = destinations_by(context, admission)
    after, limit = parse_dead_letters(request.query.items())
    letters = await administration.dead_letters(request.match_info["name"], after, limit)
    await admission.recheck()
    return json_response(DeadLetterList(list(map(public_dead_letter, letters))))


async def delete_dead_letters(
    request: web.Request, context: Context, admission: Admission
) -> web.Response:
    """`DELETE /v1/destinations/{name}/dead-letters`, or of one of them."""
    name, one = request.match_info["name"], request.match_info.get("id")
    administration = destinations_by(context, admission)
    count = await administration.delete_dead_letters(name, None if one is None else [one])
    return json_response(DeletedDeadLetters(count))


async def _changed(
    context: Context, administration: DestinationAdministration, changed: Destination
) -> web.Response:
    """Answer with a changed destination, once this process heeds it."""
    await context.deliveries.poll()
    return json_response(await shown(context, administration, changed))
