"""`/v1/stream`: streams over every transport; and `/v1/tickets`, with which browsers open them."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, nullcontext
from functools import partial
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from aiohttp import web

from gateway.access.credentials.ticket import MAX_LENGTH, StreamCookie, new_ticket, sign
from gateway.access.credentials.viewer import EXPORT, LIVE
from gateway.access.limits.ports import Lease
from gateway.access.usage.access import OPENED
from gateway.clock import format_rfc3339
from gateway.cursor import distance, earlier, format_cursor, parse_cursor
from gateway.errors import Forbidden, InvalidRequest, Unavailable
from gateway.http.connection.handoff import (
    HandedOff,
    half_closed,
    hand_off,
    response_head,
    sent_behind,
)
from gateway.http.connection.stream_connection import StreamConnection
from gateway.http.connection.websocket_connection import RECEIVED_BYTES, WebSocketConnection
from gateway.http.exports.export_sink import ExportSink
from gateway.http.exports.exporting import export_headers, export_sink
from gateway.http.query.position import Begin, count_events, end_of, find_begin
from gateway.http.query.query import Query, pairs_of_body, parse_stream
from gateway.http.query.range import OPEN
from gateway.http.query.viewer import refuse_unless
from gateway.http.request import stream_access
from gateway.http.request.access_logging import log_query
from gateway.http.request.admission import Admission
from gateway.http.request.body import json_body
from gateway.http.request.consumer_access import (
    ComingReader,
    begin_of,
    claim_stream,
    coming_reader,
    refuse_consumer_with_ticket,
)
from gateway.http.request.context import CONTEXT, Context
from gateway.http.request.origin import check_origin
from gateway.http.response.answers import TicketAnswer
from gateway.http.response.problem import LIMIT_DECISION, json_response
from gateway.http.viewer.tickets import subject_of, viewer_ticket
from gateway.log.bound_view import bound_view
from gateway.looking.condition import condition_of
from gateway.streaming.consumer_reader import ConsumerReader
from gateway.streaming.event_selector import EventSelector
from gateway.streaming.live.delivery_pacer import DeliveryPacer
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.subscription import StreamSink, Subscription
from gateway.wire.framing import VIEWER_TAKEN_OVER
from gateway.wire.websocket_writer import PlainWebSocket


class _Held(NamedTuple):
    """What is held for a stream: a place among those of its key, its pace, its consumer, and the
    offset of its `until`."""

    place: Lease | None
    pacer: DeliveryPacer | None
    reader: ConsumerReader | None
    end: int | None = None


async def stream(request: web.Request) -> web.StreamResponse:
    """`GET /v1/stream`."""
    return await _open(request, stream_access.from_url(request))


async def stream_post(request: web.Request) -> web.StreamResponse:
    """`POST /v1/stream`: the parameters as a JSON body."""
    return await _open(request, stream_access.from_body(request))


async def create_ticket(
    request: web.Request, context: Context, admission: Admission
) -> web.Response:
    """`POST /v1/tickets`: the parameters of a stream as JSON, or those of an embedded viewer."""
    check_origin(request)
    subject, body = subject_of(await json_body(request))
    if isinstance(body, dict) and "viewer" in body:
        return await viewer_ticket(context, admission, body, subject)
    if admission.action != "stream":
        raise Forbidden(
            "a ticket opens a stream, and no grant of this key allows that; a ticket with `viewer` "
            "needs no more than pull",
            code="action_not_granted",
            action="stream",
        )
    pairs = pairs_of_body(body)
    now = context.clock.now()
    refuse_consumer_with_ticket(parse_stream(pairs, None, now))
    key, session = admission.key, admission.session
    # Persons have no key that would outlast their session.
    person = session.id if session is not None and key.person is not None else ""
    origin = request.headers.get("Origin")
    ticket = new_ticket(key.id, tuple(pairs), origin, now, person, subject)
    secret = context.keyring.peppers.current.secret
    text = sign(ticket, secret)
    if len(text) > MAX_LENGTH:
        raise InvalidRequest("the parameters are too long for a ticket; shorten the filter")
    expires_at = format_rfc3339(int(ticket.expires_at * 1_000_000))
    return json_response(TicketAnswer(text, expires_at), status=201)


async def _open(
    request: web.Request, coming: Awaitable[stream_access.StreamRequest]
) -> web.StreamResponse:
    asked, context = await coming, request.app[CONTEXT]
    opening, query, key = asked.opening, asked.query, asked.opening.admission.key
    viewer = opening.admission.viewer
    if viewer is not None:
        refuse_unless(viewer, LIVE if query.follow else EXPORT)
    view = await bound_view(context.log, opening.admission.view, context.clock.now())
    stream_query = StreamQuery(query.wanted, view, condition_of(query.filter, query.text))
    access = opening.admission.access
    notice = log_query(access, opening.pairs, query, opening.admission.view)
    if not context.ready:
        raise Unavailable("the gateway is stopping; connect again", code="stopping", retry_after=2)
    if len(context.hub.subscriptions) >= context.settings.stream.max_streams:
        raise Unavailable(
            "all streams of this gateway are taken; try again later",
            code="too_many_streams",
            retry_after=5,
        )
    arriving: ComingReader | None = None
    if query.consumer is None:
        begin = await find_begin(context.log, query, view.begin)
    else:
        arriving = await coming_reader(
            request, opening.admission, query, view, asked.wire.transport
        )
        begin = arriving.begin
    begin = msgspec.structs.replace(begin, notice=notice)
    if opening.cookie is not None:
        begin = stream_access.not_before(begin, opening.cookie, context.log.epoch)
        left = await _left_of(context, query, stream_query, opening.cookie, key.id, begin.offset)
        if left is None:
            return stream_access.answer_complete(request, opening.cookie)
        asked = msgspec.structs.replace(asked, query=left)
    interest, ticket = Interest(stream_query, asked.wire), opening.ticket
    pacer = context.limits.pacer(key)
    if viewer is None or not query.follow:
        place = await context.limits.open_stream(request, key)
    else:
        # The page has come back: what it had before is over, whether that is known yet or not.
        for one in context.hub.streams_of(key.id):
            if one.viewer == viewer.id:
                context.hub.end(one, VIEWER_TAKEN_OVER)
        place = await context.limits.open_viewer(request, viewer.id, key)
    with ExitStack() as unless_opened:
        if place is not None:
            unless_opened.callback(place.release)
        reader = None
        if arriving is not None:
            reader = await claim_stream(context, arriving)
            unless_opened.callback(context.consumers.give_up, reader.row)
            begin = msgspec.structs.replace(begin, offset=begin_of(reader.row, view))
        async with stream_access.spend_ticket(request, ticket) if ticket else nullcontext():
            # Events that come before the stream is taken over belong to it, if it has no end.
            end = None if query.ending == OPEN else await end_of(context.log, query.ending)
            await _take(request, asked, interest, begin, _Held(place, pacer, reader, end))
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
    """Rest of a stream that a browser resumes; None if it is complete."""
    if cookie.until and begin >= parse_cursor(cookie.until)[1]:
        return None
    if query.limit is None:
        return query
    # The limit counts over all its connections.
    began = parse_cursor(cookie.begin)[1]
    selector = EventSelector(stream_query, context.work, key_id, most_steps=sys.maxsize)
    left = query.limit - await count_events(context.log, selector, began, begin, query.limit)
    if left > 0 and selector.exhausted:
        raise Unavailable(
            "the filters of this key have used up their share of the processor, so what this "
            "stream has had cannot be counted; ask for a new ticket",
            code="filter_share_used_up",
            retry_after=max(1, math.ceil(context.work.wait(key_id))),
        )
    return msgspec.structs.replace(query, limit=left) if left > 0 else None


async def _take(
    request: web.Request,
    asked: stream_access.StreamRequest,
    interest: Interest,
    begin: Begin,
    held: _Held,
) -> None:
    """Answer with the stream, whose end frees what is held for it.

    Raises `ConnectionResetError` if the client is gone.
    """
    context, opening, query, wire = request.app[CONTEXT], asked.opening, asked.query, asked.wire
    admission, access = opening.admission, opening.admission.access
    # Enforcement does not know this stream yet: check changes here.
    await admission.recheck()
    context.limits.throttle.check(admission.key, lasting=True)
    # No await from here on: the position is fixed when the first byte is sent.
    if held.reader is not None:
        context.consumers.refuse_overtaken(held.reader)
    until = None if query.follow else context.log.head
    if until is not None and held.end is not None:
        until = earlier(until, held.end)
    if opening.cookie is not None and opening.cookie.until:
        until = parse_cursor(opening.cookie.until)[1]
    websocket = isinstance(wire, PlainWebSocket)
    retry_ms = context.settings.stream.retry_ms
    cursor = format_cursor(context.log.epoch, begin.offset)
    status = HTTPStatus.SWITCHING_PROTOCOLS if websocket else HTTPStatus.OK
    # For framings that send nothing before the first event.
    limit_headers = request[LIMIT_DECISION].headers() if LIMIT_DECISION in request else {}
    shown = [f"{name}: {value}" for name, value in limit_headers.items()]
    last = "" if until is None else format_cursor(context.log.epoch, until)
    if opening.ticket is not None and opening.sets_cookie:
        cookies = stream_access.cookie_headers(request, opening.ticket, cursor, last)
        shown += [f"{name}: {value}" for name, value in cookies]
    headers = [*asked.headers, *shown, f"Audit-Cursor: {cursor}"]
    export = asked.export
    if export is not None:
        headers += export_headers(export, admission.key.id, (cursor, last), begin)
    head = response_head(status, headers, context.clock.now())
    greeting = wire.opening(cursor, random.randint(retry_ms, 2 * retry_ms), begin.gap)
    notice = b"" if begin.notice is None else wire.control("notice", begin.notice)
    closed, said = half_closed(request), sent_behind(request)
    if len(said) > RECEIVED_BYTES:
        raise InvalidRequest(
            "send frames when the handshake has been answered, not behind it", code="bad_handshake"
        )
    # Nothing about the request can fail from here on: take the connection.
    transport, leave = hand_off(request, context.connections)
    most = context.settings.stream.buffer_bytes
    connection = (
        WebSocketConnection(
            transport, most, context.write_scheduler, context.connections.parse_scheduler
        )
        if websocket
        else StreamConnection(transport, most, context.write_scheduler)
    )
    sink: StreamSink | ExportSink = connection
    if export is not None:
        assert isinstance(connection, StreamConnection)
        sink = export_sink(context, connection, export, admission.key.id)
    connection.on_lost = partial(_lost, sink, leave)
    reader, pacer = held.reader, held.pacer
    subscription = Subscription(
        interest,
        sink,
        admission.key.id,
        begin.offset,
        until=until,
        limit=query.limit,
        # A body without a place for a gap must not go on behind one.
        skip_gaps=query.skip_gaps and not wire.fixed_view,
        address=access.address or None,
        pacer=pacer if reader is None else reader.pacer.limited_by(pacer),
        place=held.place,
        consumer=reader,
    )
    viewer = admission.viewer
    if viewer is not None:
        subscription.lookback = viewer.lookback
        left = viewer.expires_at - context.clock.now()
        subscription.ends_at = context.clock.monotonic() + left
        subscription.viewer = viewer.id if query.follow else ""
    if export is None:
        connection.write(head + notice + greeting)
    else:
        connection.write(head)
        sink.write(notice + greeting)
    if isinstance(sink, ExportSink):
        sink.subscription = subscription
    access.action, access.transport = OPENED, wire.name if export is None else export.transport
    access.begin = access.end = begin.offset
    access.behind = distance(begin.offset, context.log.head)
    context.access_log.log(access)
    subscription.opened = access
    if access.session:
        context.session_streams.add(access.session, subscription)
    if reader is not None:
        reader.attach(context.hub, subscription)
        context.consumers.hold(reader)
    connection.serve(context.hub, subscription)
    if said:
        connection.data_received(said)
    if closed:
        connection.eof_received()


def _lost(sink: StreamSink | ExportSink, leave: Callable[[], None]) -> None:
    """Note that a connection is lost, before its stream is told."""
    leave()
    if isinstance(sink, ExportSink):
        sink.lost()
