"""Rows of the table of routes for declared sets."""

from __future__ import annotations

from gateway.http.declarations import handlers
from gateway.http.openapi.parts import says
from gateway.http.openapi.route import PUBLIC, Route

DECLARATION_ROUTES: tuple[Route, ...] = (
    Route("GET", "/declaration.schema.json", handlers.schema, PUBLIC, "declarationSchema",
          "JSON Schema of files that declare roles, keys and destinations, for editors.",
          {200: says("The schema.", {"type": "object"}, "application/schema+json")}),
)  # fmt: skip
