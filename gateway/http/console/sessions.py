"""`/v1/session`: sign-in to the console with a key, and sign-out."""

from __future__ import annotations

from aiohttp import web

from gateway.access.credentials.session import Session, csrf_token
from gateway.access.usage.access import SIGNED_IN, SIGNED_OUT
from gateway.clock import format_rfc3339
from gateway.errors import Unauthorized
from gateway.http.credentials.cookie import (
    forget_session_cookie,
    session_secret,
    set_session_cookie,
)
from gateway.http.credentials.guard import check_host, check_own_page
from gateway.http.query.bodies import SignInBody
from gateway.http.query.query import refuse_unknown
from gateway.http.request.access_logging import CURRENT_ACCESS
from gateway.http.request.body import json_body
from gateway.http.request.context import CONTEXT
from gateway.http.response.answer import Answer
from gateway.http.response.console_answers import SessionAnswer
from gateway.http.response.problem import json_response
from gateway.http.response.request_metrics import BY_BREAK_GLASS, BY_KEY
from gateway.http.response.request_metrics import SIGNED_IN as SUCCESS
from gateway.json_members import parse_body


async def sign_in(request: web.Request) -> Answer:
    """`POST /v1/session`: 201 with a cookie. A session that the browser had ends."""
    refuse_unknown(request.query, ())
    context = request.app[CONTEXT]
    check_host(request)
    check_own_page(request, needs_origin=True)
    body = parse_body(await json_body(request), SignInBody)
    key, _ = await context.admission.identify(request, body.key)
    access, sessions = request[CURRENT_ACCESS], context.admission.sessions
    before = session_secret(request)
    if before is not None and (found := await sessions.find(before)) is not None:
        await sessions.end([found.id])
    secret, session = await sessions.open(key.id, access.address, access.client)
    access.action, access.session = SIGNED_IN, session.id
    context.requests.sign_ins[BY_BREAK_GLASS if key.break_glass else BY_KEY, SUCCESS] += 1
    headers = {"Set-Cookie": set_session_cookie(request, secret), "Location": "/v1/session"}
    return json_response(_answer(session, secret), status=201, headers=headers)


async def show(request: web.Request) -> Answer:
    """`GET /v1/session`."""
    secret, session = await _current(request)
    return json_response(_answer(session, secret))


async def sign_out(request: web.Request) -> web.Response:
    """`DELETE /v1/session`: its streams have ended when this returns."""
    _, session = await _current(request)
    await request.app[CONTEXT].admission.sessions.end([session.id])
    request[CURRENT_ACCESS].action = SIGNED_OUT
    headers = {"Set-Cookie": forget_session_cookie(request), "Cache-Control": "no-store"}
    return web.Response(status=204, headers=headers)


async def _current(request: web.Request) -> tuple[str, Session]:
    """Secret and session of a request by cookie, whatever its key is granted."""
    refuse_unknown(request.query, ())
    secret = session_secret(request)
    if secret is None:
        raise Unauthorized("sign in first: POST /v1/session", code="missing_session")
    _, session = await request.app[CONTEXT].admission.identify(request)
    assert session is not None
    return secret, session


def _answer(session: Session, secret: str) -> SessionAnswer:
    return SessionAnswer(
        session.id,
        session.key_id,
        format_rfc3339(int(session.created_at * 1_000_000)),
        format_rfc3339(int(session.ends_at() * 1_000_000)),
        csrf_token(secret),
    )
