"""Rows of the table of routes for keys as administration looks at them."""

from __future__ import annotations

from gateway.http.keys import key_list, preview
from gateway.http.keys.parameters import KEYS
from gateway.http.openapi.parts import content, says
from gateway.http.openapi.route import Route
from gateway.http.openapi.schemas import named

KEY_ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/keys", key_list.list_all, ("keys.read",), "keys", "Keys.",
          {200: says("Oldest first, or in the order asked for.", named("KeyList"))},
          parameters=KEYS),
    Route("POST", "/v1/authz/preview", preview.preview, ("keys.admin",), "preview",
          "What a key with such grants would see.",
          {200: says("As far as the asking key sees it.", named("Preview"))},
          body=content(named("NewPreview"))),
)  # fmt: skip
