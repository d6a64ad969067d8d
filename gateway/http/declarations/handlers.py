"""`/declaration.schema.json`: the schema of files of declarations."""

from __future__ import annotations

from aiohttp import web

from gateway.declarations.schema import shipped_schema

_SCHEMA_TYPE = "application/schema+json"


async def schema(request: web.Request) -> web.Response:
    """`GET /declaration.schema.json`, for editors, which have no key."""
    return web.Response(body=shipped_schema(), content_type=_SCHEMA_TYPE)
