"""`/v1/tickets`, and the streams that are opened with them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from aiohttp import web

from gateway.clock import format_rfc3339
from gateway.cursor import format_cursor, parse_cursor
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
from gateway.server.address import is_secure
from gateway.server.auth import offered_ticket
from gateway.server.body import json_body
from gateway.server.context import CONTEXT, Context
from gateway.server.origin import check_origin
from gateway.server.position import Begin
from gateway.server.problem import json_response
from gateway.server.query import RESUME, Pairs, pairs_of_body, parse_stream

_COOKIE = "audit_stream_"


class Access(msgspec.Struct, frozen=True):
    """A stream that may be opened: with whose key, what it sees, and the parameters.

    `ticket` is the one that is used with it, where the answer has to set its cookie. `begin` is
    the cursor before which it must not begin, if there is one.
    """

    key: Key
    view: View
    pairs: list[tuple[str, str]]
    ticket: Ticket | None = None
    begin: str = ""


async def create(request: web.Request) -> web.Response:
    """`POST /v1/tickets`: the parameters of a stream as JSON."""
    context = request.app[CONTEXT]
    key, _ = await context.authenticator.authorize(request, "stream")
    check_origin(request)
    pairs = pairs_of_body(await json_body(request))
    now = context.clock.now()
    parse_stream(pairs, None, now)
    ticket = new_ticket(key.id, tuple(pairs), request.headers.get("Origin"), now)
    secret = context.keyring.peppers.current.secret
    text = sign(ticket, secret)
    # Its cookie is longer by the cursor.
    cookie = ticket.as_cookie(now, format_cursor(context.log.epoch, context.log.head))
    if len(sign(cookie, secret)) > MAX_LENGTH:
        raise InvalidRequest("the parameters are too long for a ticket; shorten the filter")
    expires_at = format_rfc3339(int(ticket.expires_at * 1_000_000))
    return json_response({"ticket": text, "expires_at": expires_at}, status=201)


async def access(request: web.Request) -> Access:
    """What the credentials of a stream request open: a key's, or a ticket's own stream.

    The store is asked last, and once for each ticket: of those that are replayed it hears nothing.
    """
    context = request.app[CONTEXT]
    authenticator = context.authenticator
    await authenticator.arrive(request, "stream")
    text = request.query.get("ticket") or offered_ticket(request)
    if text is None:
        key, view = await authenticator.authorize(request, "stream")
        return Access(key, view, list(request.query.items()))
    now = context.clock.now()
    cookie = _from_cookies(request.cookies.values(), text, context, now)
    ticket = cookie or _read(text, context, now)
    # Before it counts as used: another page must not spend it.
    _check_origin(request, ticket)
    resumed = _resume(request.query.items())
    if cookie is not None:
        key, view = await authenticator.authorize_key(cookie.key_id, request, "stream")
        return Access(key, view, [*cookie.parameters, *resumed], begin=cookie.begin)
    if ticket is None or ticket.kind != "ticket":
        await authenticator.refuse_ticket(request)
    if any(value for _, value in resumed) or request.headers.get("Last-Event-ID"):
        raise InvalidRequest(
            "a ticket begins where it was made to begin: send no position beside it, or ask for a "
            "ticket with `after`",
            parameter="last_event_id",
        )
    key, view = await authenticator.authorize_key(ticket.key_id, request, "stream")
    if not await _first_use(context, ticket, now):
        await authenticator.refuse_ticket(request)
    in_url = "ticket" in request.query
    return Access(key, view, list(ticket.parameters), ticket if in_url else None)


async def _first_use(context: Context, ticket: Ticket, now: float) -> bool:
    """Whether nobody has used the ticket before, in this process or in any other."""
    if not context.used_tickets.add(ticket, now):
        return False
    use = Use(ticket)
    try:
        await context.key_store.update_notes(KIND, {use.name: use})
    except BaseException:
        context.used_tickets.remove(ticket)
        raise
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
            # Those of earlier versions do not say where they began.
            return known if known.begin else None
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


def not_before(begin: Begin, access: Access, epoch: str) -> Begin:
    """Where a stream begins, or where the stream that goes on in it began, if that is later."""
    if not access.begin:
        return begin
    began_in, offset = parse_cursor(access.begin)
    if began_in != epoch:
        raise Unauthorized(
            "the log is another one than the ticket was made for; ask for a new ticket",
            code="invalid_ticket",
        )
    return msgspec.structs.replace(begin, offset=max(begin.offset, offset))


def set_cookie(ticket: Ticket, begin: str, request: web.Request) -> str:
    """The `Set-Cookie` value of a stream that was opened with a ticket and begins there."""
    context = request.app[CONTEXT]
    secure = "; Secure" if is_secure(request) else ""
    cookie = ticket.as_cookie(context.clock.now(), begin)
    text = sign(cookie, context.keyring.peppers.current.secret)
    return (
        f"{_COOKIE}{cookie.id}={text}; Path=/v1/stream; "
        f"Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Strict{secure}"
    )
