"""`/v1/tickets`, and the streams that are opened with them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from aiohttp import web

from gateway.clock import format_rfc3339
from gateway.errors import Forbidden, InvalidRequest, Unauthorized
from gateway.keys.key import Key
from gateway.keys.policy import View
from gateway.keys.ticket import (
    COOKIE_SECONDS,
    KIND,
    MAX_LENGTH,
    Ticket,
    Use,
    new_ticket,
    read_ticket,
    sign,
)
from gateway.server.auth import offered_ticket
from gateway.server.body import json_body
from gateway.server.context import CONTEXT, Context
from gateway.server.origin import check_origin
from gateway.server.problem import json_response
from gateway.server.query import RESUME, Pairs, pairs_of_body, parse_stream

_COOKIE = "audit_stream_"


class Access(msgspec.Struct, frozen=True):
    """A stream that may be opened: with whose key, what it sees, and the parameters.

    `cookie` is a `Set-Cookie` value to answer with.
    """

    key: Key
    view: View
    pairs: list[tuple[str, str]]
    cookie: str | None = None


async def create(request: web.Request) -> web.Response:
    """`POST /v1/tickets`: the parameters of a stream as JSON."""
    context = request.app[CONTEXT]
    key, _ = await context.authenticator.authorize(request, "stream")
    check_origin(request)
    pairs = pairs_of_body(await json_body(request))
    now = context.clock.now()
    parse_stream(pairs, None, now)
    ticket = new_ticket(key.id, tuple(pairs), request.headers.get("Origin"), now)
    text = sign(ticket, context.keyring.peppers.current.secret)
    if len(text) > MAX_LENGTH:
        raise InvalidRequest("the parameters are too long for a ticket; shorten the filter")
    expires_at = format_rfc3339(int(ticket.expires_at * 1_000_000))
    return json_response({"ticket": text, "expires_at": expires_at}, status=201)


async def access(request: web.Request) -> Access:
    """What the credentials of a stream request open: a key's, or a ticket's own stream."""
    context = request.app[CONTEXT]
    text = request.query.get("ticket") or offered_ticket(request)
    if text is None:
        key, view = await context.authenticator.authorize(request, "stream")
        return Access(key, view, list(request.query.items()))
    now = context.clock.now()
    ticket = _read(text, context, now)
    # Before it counts as used: another page must not spend it.
    _check_origin(request, ticket)
    cookie: str | None = None
    if ticket is not None and ticket.kind == "ticket" and await _first_use(context, ticket):
        if "ticket" in request.query:
            cookie = _set_cookie(ticket.as_cookie(now), context, request)
    else:
        ticket = _from_cookies(request.cookies.values(), text, context, now)
    if ticket is None:
        raise Unauthorized(
            "the ticket is unknown, over, or was used; ask for a new one", code="invalid_ticket"
        )
    _check_origin(request, ticket)
    key, view = await context.authenticator.authorize_key(ticket.key_id, request, "stream")
    return Access(key, view, [*ticket.parameters, *_resume(request.query.items())], cookie)


async def _first_use(context: Context, ticket: Ticket) -> bool:
    """Whether nobody has used the ticket before, in this process or in any other."""
    use = Use(ticket)
    await context.key_store.update_notes(KIND, {use.name: use})
    return use.first


def _from_cookies(cookies: Iterable[str], text: str, context: Context, now: float) -> Ticket | None:
    """The cookie that came of this very ticket, for a browser that reconnects."""
    # The ticket itself is over by then: its claims count, not its time.
    original = _read(text, context, 0.0)
    if original is None:
        return None
    for cookie in cookies:
        known = _read(cookie, context, now)
        if known is not None and known.kind == "cookie" and known.id == original.id:
            return known
    return None


def _read(text: str, context: Context, now: float) -> Ticket | None:
    """A ticket or cookie of ours, whichever of the peppers it is signed with."""
    for pepper in context.keyring.peppers.for_tickets():
        ticket = read_ticket(text, pepper, now)
        if ticket is not None:
            return ticket
    return None


def _check_origin(request: web.Request, ticket: Ticket | None) -> None:
    check_origin(request)
    if ticket is None or ticket.origin is None:
        return
    origin = request.headers.get("Origin")
    # Browsers leave it out where a page asks its own origin, but never with a WebSocket.
    if origin != ticket.origin and (origin is not None or "Upgrade" in request.headers):
        raise Forbidden("the ticket was made for another origin", code="origin_not_allowed")


def _resume(pairs: Pairs) -> list[tuple[str, str]]:
    """Of the URL only the position counts beside a ticket."""
    kept = []
    for name, value in pairs:
        if name in RESUME:
            kept.append((name, value))
        elif name != "ticket":
            raise InvalidRequest(
                f"{name[:64]!r} beside a ticket: the parameters are those it was made with",
                code="unknown_parameter",
                parameter=name[:64],
            )
    return kept


def _set_cookie(cookie: Ticket, context: Context, request: web.Request) -> str:
    secure = "; Secure" if request.secure else ""
    text = sign(cookie, context.keyring.peppers.current.secret)
    return (
        f"{_COOKIE}{cookie.id}={text}; Path=/v1/stream; "
        f"Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Strict{secure}"
    )
