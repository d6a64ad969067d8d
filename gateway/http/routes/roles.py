"""`/v1/roles`: named lists of grants. A change reaches live streams at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from aiohttp import web

from gateway.access.grants.role import RoleAnswer, parse_role
from gateway.http.request.admission import Admission
from gateway.http.request.body import json_body
from gateway.http.request.context import Context
from gateway.http.request.delegation import administration_by
from gateway.http.request.listing import listed
from gateway.http.response.answers import DeletedRole
from gateway.http.response.problem import json_response


@listed("roles")
async def list_all(
    request: web.Request, context: Context, admission: Admission
) -> AsyncGenerator[RoleAnswer]:
    """`GET /v1/roles`."""
    roles = await administration_by(context, admission).all_roles()
    async for role in context.work.slices(admission.key.id).each(roles.values()):
        yield role.public()


async def show(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/roles/{name}`."""
    administration = administration_by(context, admission)
    role = await administration.role(request.match_info["name"])
    await admission.recheck()
    return json_response(role.public())


async def put(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`PUT /v1/roles/{name}`: 201 if it is new, else 200."""
    administration = administration_by(context, admission)
    role = parse_role(request.match_info["name"], await json_body(request))
    new = await administration.put_role(role)
    await context.enforcement.poll()
    stored = await administration.role(role.name)
    return json_response(stored.public(), status=201 if new else 200)


async def delete(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`DELETE /v1/roles/{name}`: 200 with the keys that lose it, or 204 without any."""
    administration = administration_by(context, admission)
    name = request.match_info["name"]
    having = await administration.delete_role(name)
    await context.enforcement.poll()
    return json_response(DeletedRole(name, having)) if having else web.Response(status=204)
