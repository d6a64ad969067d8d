"""Rows of the table of routes for embedded viewers."""

from __future__ import annotations

from gateway.http.openapi.parts import content, says
from gateway.http.openapi.route import PUBLIC, Route
from gateway.http.openapi.schemas import named
from gateway.http.viewer import opening, page

_PAGE = says(
    "The page, for frames in pages of `server.allowed_origins` alone.",
    {"type": "string"},
    "text/html",
)

VIEWER_ROUTES: tuple[Route, ...] = (
    Route("GET", "/embed", page.embed, PUBLIC, "embed",
          "The page of an embedded viewer; its ticket stands in the fragment: `#ticket=..`.",
          {200: _PAGE}, problems=(404,), tag="console"),
    Route("GET", "/embed/{name}", page.embed, PUBLIC, "embedNamed",
          "The same page under a name of yours.", {200: _PAGE}, problems=(404,), tag="console"),
    Route("POST", "/v1/viewer/session", opening.open_viewer, PUBLIC, "openViewer",
          "Trade the ticket of a viewer, once, for a token of 15 minutes. No cookie is set.",
          {201: says("The token, which opens pages, counts and one stream.",
                     named("ViewerSession"))},
          problems=(400, 401, 403, 429, 431, 503), tag="console",
          body=content(named("ViewerTicket"))),
)  # fmt: skip
