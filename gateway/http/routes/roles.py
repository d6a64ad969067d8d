"""`/v1/roles`: named lists of grants. A change reaches live streams at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec
from aiohttp import web

from gateway.access.grants.role import parse_role
from gateway.http.request.admission import Admission, recheck
from gateway.http.request.body import json_body
from gateway.http.request.context import CONTEXT, Context
from gateway.http.request.delegation import administration_by, authorize_administration
from gateway.http.request.listing import listing
from gateway.http.response.answers import DeletedRole
from gateway.http.response.problem import json_response


async def list_all(request: web.Request) -> web.StreamResponse:
    """`GET /v1/roles`."""
    context = request.app[CONTEXT]
    admission = await context.admission.admit(request, "keys.admin")
    return await listing(request, "roles", _listed(context, admission), admission)


async def _listed(context: Context, admission: Admission) -> AsyncGenerator[bytes]:
    roles = await administration_by(context, admission).all_roles()
    async for role in context.work.slices(admission.key.id).each(roles.values()):
        yield msgspec.json.encode(role.public())


async def show(request: web.Request) -> web.Response:
    """`GET /v1/roles/{name}`."""
    _, administration = await authorize_administration(request)
    role = await administration.role(request.match_info["name"])
    await recheck(request)
    return json_response(role.public())


async def put(request: web.Request) -> web.Response:
    """`PUT /v1/roles/{name}`: 201 if it is new, else 200."""
    context, administration = await authorize_administration(request)
    role = parse_role(request.match_info["name"], await json_body(request))
    new = await administration.put_role(role)
    await context.enforcement.poll()
    return json_response(role.public(), status=201 if new else 200)


async def delete(request: web.Request) -> web.Response:
    """`DELETE /v1/roles/{name}`: 200 with the keys that lose it, or 204 without any."""
    context, administration = await authorize_administration(request)
    name = request.match_info["name"]
    having = await administration.delete_role(name)
    await context.enforcement.poll()
    return json_response(DeletedRole(name, having)) if having else web.Response(status=204)
