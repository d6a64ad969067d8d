"""Rows of the table of routes for declared sets."""

from __future__ import annotations

from gateway.http.declarations import handlers
from gateway.http.declarations.parameters import PARAMETERS
from gateway.http.openapi.parts import content, says
from gateway.http.openapi.route import PUBLIC, Route
from gateway.http.openapi.schemas import named

DECLARATION_ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/declarations/{set}", handlers.apply, ("keys.admin",), "applyDeclarations",
          "Make the roles, keys and destinations of a set what a file declares, in one change; or "
          "plan that. Destinations need destinations.admin, too.",
          {200: says("The plan, and what came of it: keys that were made, shown this once.",
                     named("Declaration"))},
          problems=(409, 412), parameters=PARAMETERS, body=content(named("DeclaredSet"))),
    Route("GET", "/declaration.schema.json", handlers.schema, PUBLIC, "declarationSchema",
          "JSON Schema of files that declare roles, keys and destinations, for editors.",
          {200: says("The schema.", {"type": "object"}, "application/schema+json")}),
)  # fmt: skip
