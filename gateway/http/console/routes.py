"""Rows of the table of routes for the console."""

from __future__ import annotations

from gateway.http.console import me, pages, sessions
from gateway.http.openapi.parts import content, headers, says
from gateway.http.openapi.route import ANY_CREDENTIAL, PUBLIC, SESSION, Route
from gateway.http.openapi.schemas import TEXT, named

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
)  # fmt: skip
