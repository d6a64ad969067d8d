"""Rows of the table of routes for the console."""

from __future__ import annotations

from gateway.http.console import me, oidc, pages, saved_views, session_list, sessions
from gateway.http.openapi.parts import content, headers, says
from gateway.http.openapi.route import ANY_CREDENTIAL, PUBLIC, SESSION, Refusals, Route
from gateway.http.openapi.schemas import TEXT, Schema, named

_VIEWING = ("pull", "stream")
_COOKIE = headers(Set_Cookie="The session, for browsers alone.")


def _texts(**abouts: str) -> tuple[Schema, ...]:
    """Query parameters that are any text."""
    return tuple(
        {"name": name, "in": "query", "schema": TEXT, "description": about}
        for name, about in abouts.items()
    )


_MOVED = headers(Location="Where to.", Set_Cookie="For browsers alone.")
_TO = _texts(to="The view of the console to come back to, as in its address behind `#/`.")
_ANSWER = _texts(
    state="That of the begun sign-in.",
    code="What the provider gives tokens for.",
    iss="The provider (RFC 9207).",
    error="Why the provider has refused.",
)
# Whoever comes here is a person in a browser.
_HTML = {"text/html": {"schema": TEXT}}
_BEGIN_REFUSALS = Refusals(oidc.refusal_page, _HTML, (400, 403, 404, 429, 431, 503))
_BACK_REFUSALS = Refusals(oidc.refusal_page, _HTML, (400, 401, 403, 404, 429, 431, 503))

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
    Route("GET", oidc.BEGIN, oidc.begin, SESSION, "signInByProvider",
          "Begin to sign in by the identity provider, as a link of the console's page does.",
          {303: says("To the provider.", headers=_MOVED)}, tag="console",
          parameters=_TO, refusals_as=_BEGIN_REFUSALS),
    Route("GET", oidc.BACK, oidc.come_back, SESSION, "signedInByProvider",
          "Come back from the identity provider (RFC 6749, section 4.1.2). Other parameters than "
          "these are passed over, as providers add some.",
          {303: says("To the console, with a session.", headers=_MOVED)},
          tag="console", parameters=_ANSWER, refusals_as=_BACK_REFUSALS),
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
