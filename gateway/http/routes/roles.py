"""`/v1/roles`: named lists of grants. A change reaches live streams at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import orjson
from aiohttp import web

from gateway.access.grants.role import BUILTIN, Role, parse_role
from gateway.access.keys.key_store import RoleCheck
from gateway.errors import Conflict, NotFound
from gateway.http.request.admission import recheck
from gateway.http.request.body import json_body
from gateway.http.request.context import CONTEXT, Context
from gateway.http.request.delegation import change_role
from gateway.http.request.listing import listing
from gateway.http.response.problem import json_response


async def list_all(request: web.Request) -> web.StreamResponse:
    """`GET /v1/roles`."""
    context = request.app[CONTEXT]
    caller, _ = await context.authenticator.authorize(request, "keys.admin")
    holding = context.in_flight.of(request, caller.id)
    return await listing(request, "roles", _shown(context, caller.id), holding)


async def _shown(context: Context, asking_id: str) -> AsyncGenerator[bytes]:
    roles = {**BUILTIN, **await context.key_store.roles()}
    async for role in context.work.slices(asking_id).each(roles.values()):
        yield orjson.dumps(role.public())


async def show(request: web.Request) -> web.Response:
    """`GET /v1/roles/{name}`."""
    context = request.app[CONTEXT]
    await context.authenticator.authorize(request, "keys.admin")
    role = await _role(context, request.match_info["name"])
    await recheck(request)
    return json_response(role.public())


async def put(request: web.Request) -> web.Response:
    """`PUT /v1/roles/{name}`: 201 if it is new, else 200."""
    context = request.app[CONTEXT]
    issuer, _ = await context.authenticator.authorize(request, "keys.admin")
    role = parse_role(request.match_info["name"], await json_body(request))
    known = role.name in await context.key_store.roles()

    async def change(check: RoleCheck) -> None:
        await context.key_store.put_role(role, issuer.id, context.clock.now(), check=check)

    await change_role(context, issuer, role.name, role.grants, change)
    await context.enforcement.poll()
    return json_response(role.public(), status=200 if known else 201)


async def delete(request: web.Request) -> web.Response:
    """`DELETE /v1/roles/{name}`: it is taken out of the keys that have it, which the answer names.

    204 if there were none.
    """
    context = request.app[CONTEXT]
    issuer, _ = await context.authenticator.authorize(request, "keys.admin")
    name = request.match_info["name"]
    if name in BUILTIN:
        raise Conflict(f"the role {name} is predefined and stays", code="predefined_role")

    async def change(check: RoleCheck) -> list[str] | None:
        store, now = context.key_store, context.clock.now()
        return await store.delete_role(name, issuer.id, now, check=check)

    having = await change_role(context, issuer, name, (), change)
    if having is None:
        raise _unknown(name)
    await context.enforcement.poll()
    return json_response({"name": name, "keys": having}) if having else web.Response(status=204)


async def _role(context: Context, name: str) -> Role:
    role = BUILTIN.get(name) or (await context.key_store.roles()).get(name)
    if role is None:
        raise _unknown(name)
    return role


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no role {name[:64]!r}", code="unknown_role")
