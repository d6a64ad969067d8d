"""`/v1/keys/{id}/usage`: counts of a key's use."""

from __future__ import annotations

from aiohttp import web

from gateway.access.keys.key_lookup import known_key
from gateway.http.query.query import parse_usage
from gateway.http.request.admission import Admission
from gateway.http.request.context import Context
from gateway.http.response.answers import UsageRows
from gateway.http.response.problem import json_response


async def show(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/keys/{id}/usage?window=24h&step=1h`: requests, streams, events, bytes, denials."""
    key_id = request.match_info["id"]
    await known_key(context.key_store, key_id)
    window, step = parse_usage(request.query.items())
    rows = await context.usage.rows(key_id, window, step)
    await admission.recheck()
    return json_response(UsageRows(key_id, [row.public() for row in rows]))
