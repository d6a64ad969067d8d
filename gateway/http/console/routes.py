"""Rows of the table of routes for the console."""

from __future__ import annotations

from gateway.http.console import me, pages, saved_views, session_list, sessions
from gateway.http.openapi.parts import content, headers, says
from gateway.http.openapi.route import ANY_CREDENTIAL, PUBLIC, SESSION, Route
from gateway.http.openapi.schemas import TEXT, named

_VIEWING = ("pull", "stream")
_COOKIE = headers(Set_Cookie="The session, for browsers alone.")

CONSOLE_ROUTES: tuple[Route, ...] = (
    Route("GET", "/console/{file}", pages.asset, PUBLIC, "consoleFile",
          "A file of the console's page.",
          {200: says("The file.", TEXT, "text/javascript", "text/css", "image/svg+xml")},
          problems=(404,), tag="console"),
    Route("GET", "/v1/me", me.me, ANY_CREDENTIAL, "me",
          "What the credentials are, and may do: a key, a ticket (as bearer) or a session.",
          {200: says("No more than the key's document tells.", named("Me"))}, tag="console"),
    Route("POST", "/v1/session", sessions.sign_in, SESSION, "signIn",
          "Sign in to the console with a key, from its own page.",
          {201: says("The session, whose cookie is set.", named("Session"), headers=_COOKIE)},
          tag="console",
          body=content(named("SignIn"))),
    Route("GET", "/v1/session", sessions.show, SESSION, "session", "The session of the cookie.",
          {200: says("The session.", named("Session"))}, tag="console"),
    Route("DELETE", "/v1/session", sessions.sign_out, SESSION, "signOut",
          "Sign out; streams of the session have ended when this returns.",
          {204: says("The session is over.", headers=_COOKIE)}, tag="console"),
    Route("GET", "/v1/sessions", session_list.list_all, ANY_CREDENTIAL, "sessions",
          "Sessions of the asking key; with `keys.read` all.",
          {200: says("The most recently used first.", named("SessionList"))}, tag="console"),
    Route("DELETE", "/v1/sessions/{id}", session_list.end, ANY_CREDENTIAL, "endSession",
          "End a session of the asking key; with `keys.admin` any. Its streams end within a "
          "second.",
          {204: says("The session is over.")}, problems=(404,), tag="console"),
    Route("GET", "/v1/views", saved_views.list_all, _VIEWING, "views",
          "Saved views of the asking key and its predecessors.",
          {200: says("By name.", named("SavedViewList"))}, tag="console"),
    Route("GET", "/v1/views/{name}", saved_views.show, _VIEWING, "view", "One saved view.",
          {200: says("The view.", named("SavedView"))}, problems=(404,), tag="console"),
    Route("PUT", "/v1/views/{name}", saved_views.put, _VIEWING, "putView",
          "Save a query with its range, or replace it; what it shows is decided when it is opened.",
          {200: says("Replaced.", named("SavedView")), 201: says("Made.", named("SavedView"))},
          problems=(409,), tag="console", body=content(named("NewView"))),
    Route("DELETE", "/v1/views/{name}", saved_views.delete, _VIEWING, "deleteView",
          "Delete a saved view.", {204: says("Deleted.")}, problems=(404,), tag="console"),
)  # fmt: skip
