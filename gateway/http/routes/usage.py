"""`/v1/keys/{id}/usage`: how much a key was used."""

from __future__ import annotations

from aiohttp import web

from gateway.access.credentials.token import is_key_id
from gateway.clock import parse_duration
from gateway.errors import InvalidRequest, NotFound
from gateway.http.request.context import CONTEXT
from gateway.http.response.problem import json_response

_PARAMETERS = ("window", "step")


async def show(request: web.Request) -> web.Response:
    """`GET /v1/keys/{id}/usage?window=24h&step=1h`: requests, streams, events, bytes, denials."""
    context = request.app[CONTEXT]
    await context.authenticator.authorize(request, "usage.read")
    for name in request.query:
        if name not in _PARAMETERS:
            raise InvalidRequest(
                f"unknown parameter {name[:64]!r}; there are {' and '.join(_PARAMETERS)}",
                code="unknown_parameter",
                parameter=name[:64],
            )
        if len(request.query.getall(name)) > 1:
            raise InvalidRequest(f"{name}: given twice; once is enough", parameter=name)
    key_id = request.match_info["id"]
    if not is_key_id(key_id) or await context.key_store.get(key_id) is None:
        raise NotFound("there is no key with this id", code="unknown_key")
    window = parse_duration(request.query.get("window", "24h"))
    step = parse_duration(request.query.get("step", "1h"))
    rows = await context.usage.rows(key_id, window, step)
    return json_response({"id": key_id, "rows": [row.public() for row in rows]})
