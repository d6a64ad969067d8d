"""Admission of a stream request: by a key, or by a ticket that was made with one."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

from gateway.access.credentials.ticket import (
    COOKIE_SECONDS,
    KIND,
    StreamCookie,
    Ticket,
    TicketUse,
    UsedOnce,
    new_cookie,
    read_cookie,
    read_ticket,
    sign_cookie,
    stale_cookies,
)
from gateway.cursor import later, parse_cursor
from gateway.errors import Forbidden, InvalidRequest, NotAcceptable, Unauthorized
from gateway.formats.csv import CSV_TYPE
from gateway.http.connection.address import is_secure
from gateway.http.connection.web_origin import parse_origin
from gateway.http.credentials.stream_cookie import (
    cookie_names,
    forget_cookie,
    sent_stream_cookies,
    set_cookie,
)
from gateway.http.credentials.token import offered_subprotocols, offered_ticket
from gateway.http.query.csv_view import csv_body, not_csv
from gateway.http.query.position import Begin
from gateway.http.query.query import RESUME, Query, pairs_of_body, parse_stream
from gateway.http.query.values import Pairs
from gateway.http.query.viewer import asked_by
from gateway.http.request.access_logging import CURRENT_ACCESS
from gateway.http.request.admission import Admission
from gateway.http.request.body import json_body
from gateway.http.request.context import CONTEXT, Context
from gateway.http.request.origin import check_origin, cors_headers
from gateway.http.response.accept import best_kind
from gateway.http.response.answer import ALWAYS
from gateway.http.response.coding import chosen_coding
from gateway.http.response.export_plan import ExportPlan
from gateway.log.bound_view import bound_view
from gateway.wire.csv_body import CsvBody
from gateway.wire.formatted import CLOUDEVENTS, Wires
from gateway.wire.framing import Wire
from gateway.wire.http_body import Ndjson, Sse
from gateway.wire.websocket_writer import SUBPROTOCOLS, PlainWebSocket

_KINDS = ("text/event-stream", "application/x-ndjson", "application/ndjson")
# Of formats that are not JSON.
_TEXT_LINES = ("text/plain",)
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HTTP_HEADERS = (
    "Cache-Control: no-cache, no-transform",
    "X-Accel-Buffering: no",
    "Connection: close",
    *(f"{name}: {value}" for name, value in ALWAYS.items()),
)


HttpBody = Sse | Ndjson | CsvBody


class Opening(msgspec.Struct, frozen=True):
    """Stream that the credentials of a request open, with its parameters.

    `ticket` is to be spent; `sets_cookie`: the answer sets its cookie; `cookie`: if it is resumed.
    """

    admission: Admission
    pairs: list[tuple[str, str]]
    ticket: Ticket | None = None
    sets_cookie: bool = False
    cookie: StreamCookie | None = None


class StreamRequest(msgspec.Struct, frozen=True):
    """Stream that may be opened: query, framing, and headers of the answer. `export`: if it is
    saved as a file."""

    opening: Opening
    query: Query
    wire: Wire
    headers: list[str]
    export: ExportPlan | None = None


async def from_url(request: web.Request) -> StreamRequest:
    """Stream with parameters in the URL, or in the ticket there, over any transport."""
    if "upgrade" in _tokens(request, "Connection") and "websocket" in _tokens(request, "Upgrade"):
        return await _over_websocket(request)
    return await _over_http(request, _admit(request))


async def from_body(request: web.Request) -> StreamRequest:
    return await _over_http(request, _admit_body(request))


async def _over_http(request: web.Request, coming: Awaitable[Opening]) -> StreamRequest:
    opening, context = await coming, request.app[CONTEXT]
    resumed = request.headers.getall("Last-Event-ID", [])
    if len(set(resumed)) > 1:
        # Ignoring one of them would silently skip events.
        raise InvalidRequest("send one Last-Event-ID", parameter="Last-Event-ID")
    query = parse_stream(opening.pairs, resumed[0] if resumed else None, context.clock.now())
    wires, format, chunked = context.wires, query.format or "native", request.version >= (1, 1)
    kinds: tuple[str, ...] = _KINDS
    if not wires.formats[format].json:
        kinds += _TEXT_LINES
    if not query.follow:
        kinds += (CSV_TYPE,)
    kind = best_kind(request, kinds)
    if kind is None:
        raise NotAcceptable(
            "a stream comes as text/event-stream, application/x-ndjson, or over a WebSocket; as "
            "text/csv with follow=false only, as a file has an end"
        )
    if query.csv is not None and kind != CSV_TYPE:
        raise not_csv()
    choose = wires.sse if kind == _KINDS[0] else wires.lines
    wire: HttpBody = choose(format, chunked=chunked)
    export: ExportPlan | None = None
    if not query.follow and kind != _KINDS[0]:
        export, wire = await _export(request, opening, query, wire, kind)
    headers = [f"Content-Type: {wire.content_type}", *_HTTP_HEADERS]
    headers += () if export is None else export.headers()
    if chunked:
        headers.append("Transfer-Encoding: chunked")
    if context.settings.server.allowed_origins:
        headers += [f"{name}: {value}" for name, value in cors_headers(request).items()]
    return StreamRequest(opening, query, wire, headers, export)


async def _export(
    request: web.Request, opening: Opening, query: Query, wire: HttpBody, kind: str
) -> tuple[ExportPlan, HttpBody]:
    """How a stream that is saved as a file is sent. Its chunks are made behind the coding."""
    context, chunked = request.app[CONTEXT], request.version >= (1, 1)
    coding = chosen_coding(request)
    if kind != CSV_TYPE:
        plan = ExportPlan(wire.name, "ndjson", chunked, coding, says_end=True)
        return plan, context.wires.lines(query.format or "native", chunked=False)
    view = await bound_view(context.log, opening.admission.view, context.clock.now())
    body = csv_body(query, view, chunked=chunked)
    return ExportPlan(body.name, "csv", chunked, coding, says_end=False), body


async def _over_websocket(request: web.Request) -> StreamRequest:
    check_origin(request)
    opening = await _admit(request)
    accept, subprotocol = _accept_key(request), _subprotocol(request)
    query = parse_stream(opening.pairs, None, request.app[CONTEXT].clock.now())
    if query.csv is not None:
        raise not_csv()
    wires = request.app[CONTEXT].wires
    wire = _websocket_wire(wires, query.format, subprotocol)
    if query.consumer is not None and subprotocol not in SUBPROTOCOLS:
        wire = wires.for_consumer(wire)
    headers = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]
    if wire.subprotocol is not None:
        headers.append(f"Sec-WebSocket-Protocol: {wire.subprotocol}")
    return StreamRequest(opening, query, wire, headers)


def _tokens(request: web.Request, name: str) -> set[str]:
    """Lower-case members of a list header, which may span several lines (RFC 9110, section 5.3)."""
    lines = request.headers.getall(name, [])
    return {token.strip().lower() for line in lines for token in line.split(",")}


def _subprotocol(request: web.Request) -> str | None:
    """The first of the offered subprotocols that the gateway speaks; None if none is offered."""
    offered = offered_subprotocols(request)
    spoken = (*SUBPROTOCOLS, CLOUDEVENTS)
    for name in offered:
        if name in spoken:
            return name
    if offered:
        raise InvalidRequest(
            "offer a subprotocol that the gateway speaks: " + ", ".join(spoken),
            code="unsupported_subprotocol",
        )
    return None


def _websocket_wire(wires: Wires, format: str | None, subprotocol: str | None) -> PlainWebSocket:
    usual = "cloudevents" if subprotocol == CLOUDEVENTS else "native"
    wire = wires.websocket(format or usual, subprotocol)
    if wire is None:
        raise InvalidRequest(
            f"format: the subprotocol {CLOUDEVENTS} has cloudevents; leave one of them out",
            code="unsupported_format",
            parameter="format",
        )
    return wire


def _accept_key(request: web.Request) -> str:
    """Value of `Sec-WebSocket-Accept` (RFC 6455, section 4.2.2)."""
    if request.version < (1, 1):
        raise InvalidRequest("a WebSocket needs HTTP/1.1", code="bad_handshake")
    if request.headers.getall("Sec-WebSocket-Version", []) != ["13"]:
        raise InvalidRequest("send Sec-WebSocket-Version: 13, once", code="bad_handshake")
    key, *more = request.headers.getall("Sec-WebSocket-Key", [""])
    if more:
        raise InvalidRequest("send one Sec-WebSocket-Key", code="bad_handshake")
    try:
        nonce = base64.b64decode(key, validate=True)
    except ValueError:
        nonce = b""
    if len(nonce) != 16:
        raise InvalidRequest("send a Sec-WebSocket-Key of 16 bytes in base64", code="bad_handshake")
    digest = hashlib.sha1(key.encode() + _WEBSOCKET_GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


async def _admit_body(request: web.Request) -> Opening:
    admission = await request.app[CONTEXT].admission.admit(request, "stream")
    body = await json_body(request)
    if request.query:
        raise InvalidRequest("send the parameters in the body or in the URL, not in both")
    return Opening(admission, pairs_of_body(body))


async def _admit(request: web.Request) -> Opening:
    """Stream that the credentials open: any for a key, its own for a ticket.

    The store is asked last, and once per ticket: replayed ones never reach it.
    """
    context = request.app[CONTEXT]
    control = context.admission
    if "ticket" not in request.query and "Sec-WebSocket-Protocol" not in request.headers:
        return await _of_reader(request)
    await control.arrive(request, "stream")
    if len(request.query.getall("ticket", [])) > 1:
        raise InvalidRequest("ticket: given several times; send one", parameter="ticket")
    text = request.query.get("ticket") or offered_ticket(request)
    if text is None:
        return await _of_reader(request)
    now = context.clock.now()
    # When a browser reconnects, the ticket has expired, but its claims count.
    ticket = read_ticket_of(text, context)
    cookie = None if ticket is None else _cookie_of(ticket, request, now)
    # Before the ticket is used: another page must not spend it.
    _check_origin(request, ticket)
    resumed = _resume(request.query.items())
    if ticket is None:
        await control.refuse_ticket(request)
    if cookie is not None:
        request[CURRENT_ACCESS].subject = ticket.subject
        admission = await control.admit_ticket(ticket, request, "stream")
        return Opening(admission, [*ticket.parameters, *resumed], cookie=cookie)
    if now >= ticket.expires_at:
        await control.refuse_ticket(request)
    if any(value for _, value in resumed) or request.headers.get("Last-Event-ID"):
        raise InvalidRequest(
            "a ticket begins where it was made to begin: send no position beside it, or ask for a "
            "ticket with `after`",
            parameter="last_event_id",
        )
    request[CURRENT_ACCESS].subject = ticket.subject
    admission = await control.admit_ticket(ticket, request, "stream")
    if ticket in context.used_tickets:
        await control.refuse_ticket(request)
    return Opening(admission, list(ticket.parameters), ticket, "ticket" in request.query)


async def _of_reader(request: web.Request) -> Opening:
    """Stream of a key, or of an embedded viewer."""
    admission = await request.app[CONTEXT].admission.admit_reader(request, "stream")
    if admission.viewer is None:
        return Opening(admission, list(request.query.items()))
    return Opening(admission, asked_by(admission.viewer, request.query.items()))


@asynccontextmanager
async def spend_ticket(request: web.Request, ticket: UsedOnce) -> AsyncIterator[None]:
    """Spend the ticket of a stream, unless the body raises.

    Raises `Unauthorized` if it was already used, in any process.
    """
    context = request.app[CONTEXT]
    use = TicketUse(ticket)
    if not context.used_tickets.add(ticket, context.clock.now()):
        await context.admission.refuse_ticket(request)
    try:
        await context.key_store.update_notes(KIND, {use.name: use})
    except BaseException:
        context.used_tickets.remove(ticket)
        raise
    if not use.first:
        await context.admission.refuse_ticket(request)
    try:
        yield
    except BaseException:
        context.used_tickets.remove(ticket)
        await context.key_store.update_notes(KIND, {use.name: use.undo})
        raise


def _cookie_of(ticket: Ticket, request: web.Request, now: float) -> StreamCookie | None:
    """Cookie made from this ticket, for a browser that reconnects."""
    cookies = sent_stream_cookies(request)
    for name in cookie_names(ticket.id):
        value = cookies.get(name, "")
        for pepper in request.app[CONTEXT].keyring.peppers.for_tickets():
            if (cookie := read_cookie(value, ticket.id, pepper, now)) is not None:
                return cookie
    return None


def read_ticket_of(text: str, context: Context) -> Ticket | None:
    """Valid ticket, possibly expired, signed with any of the peppers."""
    for pepper in context.keyring.peppers.for_tickets():
        ticket = read_ticket(text, pepper, 0.0)
        if ticket is not None:
            return ticket
    return None


def _check_origin(request: web.Request, ticket: Ticket | None) -> None:
    check_origin(request)
    if ticket is None or ticket.origin is None:
        return
    origin = request.headers.get("Origin")
    # Browsers omit it for requests to the page's own origin, but never for a WebSocket.
    same = origin is not None and parse_origin(origin) == parse_origin(ticket.origin)
    if not same and (origin is not None or "Upgrade" in request.headers):
        raise Forbidden("the ticket was made for another origin", code="origin_not_allowed")


def _resume(pairs: Pairs) -> list[tuple[str, str]]:
    """Position in the URL; the ticket determines all else."""
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


def not_before(begin: Begin, cookie: StreamCookie, epoch: str) -> Begin:
    """Begin of a stream, but not before that of the stream it continues."""
    began_in, offset = parse_cursor(cookie.begin)
    if began_in != epoch:
        raise Unauthorized(
            "the log is another one than the ticket was made for; ask for a new ticket",
            code="invalid_ticket",
        )
    return msgspec.structs.replace(begin, offset=later(begin.offset, offset))


def cookie_headers(
    request: web.Request, ticket: Ticket, begin: str, until: str
) -> list[tuple[str, str]]:
    """`Set-Cookie` headers of a stream opened with a ticket, from `begin` to `until`.

    A browser keeps a few: the oldest make room for the new one.
    """
    context = request.app[CONTEXT]
    secure = is_secure(request)
    cookie = new_cookie(ticket, begin, until, context.clock.now())
    value = sign_cookie(cookie, context.keyring.peppers.current.secret)
    over_tls, plain = cookie_names(cookie.ticket_id)
    name = over_tls if secure else plain
    cookies = [set_cookie(name, value, COOKIE_SECONDS, secure)]
    sent = sent_stream_cookies(request)
    cookies += [forget_cookie(request, stale) for stale in stale_cookies(sent)]
    return [("Set-Cookie", one) for one in cookies]


def answer_complete(request: web.Request, cookie: StreamCookie) -> web.Response:
    """Answer for a complete stream: 204 stops reconnects (WHATWG HTML, section 9.2.3)."""
    response = web.Response(status=204, headers={"Cache-Control": "no-store"})
    cookies = sent_stream_cookies(request)
    for name in cookie_names(cookie.ticket_id):
        if name in cookies:
            response.headers.add("Set-Cookie", forget_cookie(request, name))
    return response
