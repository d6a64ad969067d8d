"""`/v1/stream`: one address for every transport."""

from __future__ import annotations

import base64
import hashlib
import math
import random
import sys
from contextlib import ExitStack
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

import msgspec
from aiohttp import web

from gateway.access.credentials.ticket import StreamCookie
from gateway.access.limits.ports import Lease
from gateway.access.usage.access import OPENED
from gateway.cursor import distance, format_cursor, parse_cursor
from gateway.errors import InvalidRequest, NotAcceptable, Unavailable
from gateway.http.connection.handoff import HandedOff, half_closed, hand_off, sent_behind
from gateway.http.connection.stream_connection import StreamConnection
from gateway.http.connection.websocket_connection import RECEIVED_BYTES, WebSocketConnection
from gateway.http.query.position import Begin, count_events, find_begin
from gateway.http.query.query import Query, pairs_of_body, parse_stream
from gateway.http.request import stream_access
from gateway.http.request.access_logging import CURRENT_ACCESS, log_query
from gateway.http.request.body import json_body
from gateway.http.request.context import CONTEXT, Context
from gateway.http.request.credentials import WEBSOCKET_BEARER, offered_subprotocols
from gateway.http.request.origin import check_origin, cors_headers
from gateway.http.response.accept import best_kind
from gateway.http.response.answer import ALWAYS
from gateway.http.response.problem import STANDING
from gateway.log.bound_view import bound_view
from gateway.streaming.choosing import Choosing
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.subscription import Subscription
from gateway.wire.framing import Wire
from gateway.wire.http_body import NDJSON, NDJSON_PLAIN, SSE, SSE_PLAIN, Ndjson, Sse
from gateway.wire.websocket_writer import PLAIN, SUBPROTOCOLS, PlainWebSocket

_KINDS = ("text/event-stream", "application/x-ndjson", "application/ndjson")
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HTTP_HEADERS = (
    "Cache-Control: no-cache, no-transform",
    "X-Accel-Buffering: no",
    "Connection: close",
    *(f"{name}: {value}" for name, value in ALWAYS.items()),
)


async def stream(request: web.Request) -> web.StreamResponse:
    """`GET /v1/stream`."""
    if "upgrade" in _tokens(request, "Connection") and "websocket" in _tokens(request, "Upgrade"):
        return await _websocket(request)
    return await _http(request, await stream_access.admit(request))


async def stream_post(request: web.Request) -> web.StreamResponse:
    """`POST /v1/stream`: the parameters as a JSON body."""
    admission = await request.app[CONTEXT].admission.admit(request, "stream")
    body = await json_body(request)
    if request.query:
        raise InvalidRequest("send the parameters in the body or in the URL, not in both")
    return await _http(request, stream_access.Opening(admission, pairs_of_body(body)))


async def _http(request: web.Request, opening: stream_access.Opening) -> web.StreamResponse:
    context = request.app[CONTEXT]
    query = parse_stream(opening.pairs, _last_event_id(request), context.clock.now())
    wire = _http_wire(request)
    headers = [f"Content-Type: {wire.content_type}", *_HTTP_HEADERS]
    if request.version >= (1, 1):
        headers.append("Transfer-Encoding: chunked")
    if context.settings.server.allowed_origins:
        headers += [f"{name}: {value}" for name, value in cors_headers(request).items()]
    return await _open(request, opening, query, wire, headers)


async def _websocket(request: web.Request) -> web.StreamResponse:
    check_origin(request)
    opening = await stream_access.admit(request)
    accept = _accept_key(request)
    wire = _websocket_wire(request)
    query = parse_stream(opening.pairs, None, request.app[CONTEXT].clock.now())
    headers = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]
    if wire.subprotocol is not None:
        headers.append(f"Sec-WebSocket-Protocol: {wire.subprotocol}")
    return await _open(request, opening, query, wire, headers)


async def _begin(
    context: Context,
    query: Query,
    not_before: int,
    opening: stream_access.Opening,
) -> Begin:
    if not context.ready:
        raise Unavailable("the gateway is stopping; connect again", code="stopping", retry_after=2)
    if len(context.hub.subscriptions) >= context.settings.stream.max_streams:
        raise Unavailable(
            "all streams of this gateway are taken; try again later",
            code="too_many_streams",
            retry_after=5,
        )
    begin = await find_begin(context.log, query, not_before)
    return stream_access.not_before(begin, opening, context.log.epoch)


async def _open(
    request: web.Request,
    opening: stream_access.Opening,
    query: Query,
    wire: Wire,
    headers: list[str],
) -> web.StreamResponse:
    context = request.app[CONTEXT]
    view = await bound_view(context.log, opening.admission.view, context.clock.now())
    stream_query = StreamQuery(query.wanted, view, query.filter)
    access = request[CURRENT_ACCESS]
    notice = log_query(access, opening.pairs, query, opening.admission.view)
    begin = await _begin(context, query, view.begin, opening)
    begin = msgspec.structs.replace(begin, notice=notice)
    if opening.cookie is not None:
        left = await _left_of(
            context, query, stream_query, opening.cookie, opening.admission.key.id, begin.offset
        )
        if left is None:
            return stream_access.answer_complete(request, opening.cookie)
        query = left
    place = await context.limits.open_stream(request, opening.admission.key)
    with ExitStack() as unless_opened:
        if place is not None:
            unless_opened.callback(place.release)
        interest = Interest(stream_query, wire)
        if opening.ticket is None:
            await _take(request, opening, query, interest, begin, headers, place)
        else:
            async with stream_access.spend_ticket(request, opening.ticket):
                await _take(request, opening, query, interest, begin, headers, place)
        unless_opened.pop_all()
    return HandedOff()


async def _left_of(
    context: Context,
    query: Query,
    stream_query: StreamQuery,
    cookie: StreamCookie,
    key_id: str,
    begin: int,
) -> Query | None:
    """What is left of a stream that a browser comes back to; None if it is complete."""
    if cookie.until and begin >= parse_cursor(cookie.until)[1]:
        return None
    if query.limit is None:
        return query
    # As much as it may get in all, over however many connections.
    began = parse_cursor(cookie.begin)[1]
    choosing = Choosing(stream_query, context.work, key_id, most_steps=sys.maxsize)
    left = query.limit - await count_events(context.log, choosing, began, begin, query.limit)
    if left > 0 and choosing.exhausted:
        raise Unavailable(
            "the filters of this key have used up their share of the processor, so what this "
            "stream has had cannot be counted; ask for a new ticket",
            code="filter_share_used_up",
            retry_after=max(1, math.ceil(context.work.wait(key_id))),
        )
    return msgspec.structs.replace(query, limit=left) if left > 0 else None


async def _take(
    request: web.Request,
    opening: stream_access.Opening,
    query: Query,
    interest: Interest,
    begin: Begin,
    headers: list[str],
    place: Lease | None,
) -> None:
    """Answer with the stream, whose end gives the place back.

    Raises `ConnectionResetError` if the client has gone.
    """
    context, access, wire = request.app[CONTEXT], request[CURRENT_ACCESS], interest.wire
    # Enforcement has not seen this stream: what changed meanwhile is seen here.
    await opening.admission.recheck()
    key = opening.admission.key
    context.limits.throttle.refuse(key)
    # From here to the end nothing waits: the position is fixed when the first byte goes out.
    until = None if query.follow else context.log.head
    if opening.cookie is not None and opening.cookie.until:
        until = parse_cursor(opening.cookie.until)[1]
    websocket = isinstance(wire, PlainWebSocket)
    retry_ms = context.settings.stream.retry_ms
    cursor = format_cursor(context.log.epoch, begin.offset)
    status = HTTPStatus.SWITCHING_PROTOCOLS if websocket else HTTPStatus.OK
    # For clients whose wire says nothing until there is an event.
    standing = request[STANDING].headers() if STANDING in request else {}
    shown = [f"{name}: {value}" for name, value in standing.items()]
    last = "" if until is None else format_cursor(context.log.epoch, until)
    cookies = stream_access.cookie_headers(request, opening, cursor, last)
    shown += [f"{name}: {value}" for name, value in cookies]
    headers = [*headers, *shown, f"Audit-Cursor: {cursor}"]
    head = _head(status, headers, context.clock.now())
    greeting = wire.opening(cursor, random.randint(retry_ms, 2 * retry_ms), begin.gap)
    notice = b"" if begin.notice is None else wire.control("notice", begin.notice)
    address, pacer = access.address or None, context.limits.pacer(key)
    closed, said = half_closed(request), sent_behind(request)
    if len(said) > RECEIVED_BYTES:
        raise InvalidRequest(
            "send frames when the handshake has been answered, not behind it", code="bad_handshake"
        )
    # What could fail because of what was asked has been done: from here on the connection is ours.
    leave = context.connections.keep_place(request)
    transport = hand_off(request)
    if transport is None:
        leave()
        raise ConnectionResetError("the client has gone")
    most = context.settings.stream.buffer_bytes
    connection = (
        WebSocketConnection(
            transport, most, context.write_scheduler, context.connections.parse_scheduler
        )
        if websocket
        else StreamConnection(transport, most, context.write_scheduler)
    )
    connection.on_lost = leave
    subscription = Subscription(
        interest,
        connection,
        key.id,
        begin.offset,
        until=until,
        limit=query.limit,
        skip_gaps=query.skip_gaps,
        address=address,
        pacer=pacer,
        place=place,
    )
    connection.write(head + notice + greeting)
    access.action, access.transport = OPENED, wire.name
    access.begin = access.end = begin.offset
    access.behind = distance(begin.offset, context.log.head)
    context.access_log.log(access)
    subscription.opened = access
    connection.serve(context.hub, subscription)
    if said:
        connection.data_received(said)
    if closed:
        connection.eof_received()


def _tokens(request: web.Request, name: str) -> set[str]:
    """The members of a list, in lower case; it may stand on several lines (RFC 9110, 5.3)."""
    lines = request.headers.getall(name, [])
    return {token.strip().lower() for line in lines for token in line.split(",")}


def _head(status: HTTPStatus, headers: list[str], now: float) -> bytes:
    first = f"HTTP/1.1 {status.value} {status.phrase}"
    lines = [first, _date(int(now)), *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


@lru_cache(2)
def _date(second: int) -> str:
    """RFC 9110, section 6.6.1."""
    return f"Date: {formatdate(second, usegmt=True)}"


def _last_event_id(request: web.Request) -> str | None:
    sent = request.headers.getall("Last-Event-ID", [])
    if len(set(sent)) > 1:
        # One of them would be passed over in silence, and a part of the log with it.
        raise InvalidRequest("send one Last-Event-ID", parameter="Last-Event-ID")
    return sent[0] if sent else None


def _http_wire(request: web.Request) -> Sse | Ndjson:
    chunked = request.version >= (1, 1)
    kind = best_kind(request, _KINDS)
    if kind == _KINDS[0]:
        return SSE if chunked else SSE_PLAIN
    if kind is not None:
        return NDJSON if chunked else NDJSON_PLAIN
    raise NotAcceptable(
        "a stream comes as text/event-stream, application/x-ndjson, or over a WebSocket"
    )


def _websocket_wire(request: web.Request) -> PlainWebSocket:
    offered = offered_subprotocols(request)
    real = [name for name in offered if not name.startswith(WEBSOCKET_BEARER)]
    for name in real:
        if name in SUBPROTOCOLS:
            return SUBPROTOCOLS[name]
    if offered:
        raise InvalidRequest(
            "offer a subprotocol that the gateway speaks: " + ", ".join(SUBPROTOCOLS),
            code="unsupported_subprotocol",
        )
    return PLAIN


def _accept_key(request: web.Request) -> str:
    """RFC 6455, section 4.2.2."""
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
