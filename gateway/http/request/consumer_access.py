"""Requests that read as a durable consumer: whose it is, where it goes on, its claim, and its
pages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from gateway.access.keys.rotation_chain import lineage_of
from gateway.access.policy.decision import View
from gateway.cursor import distance, format_cursor, later, parse_cursor
from gateway.errors import CursorGone, InvalidRequest
from gateway.event import Event
from gateway.http.connection.address import is_behind_proxy
from gateway.http.query.position import Begin, find_begin
from gateway.http.query.query import ConsumerQuery, Query
from gateway.http.query.values import Position
from gateway.http.request.admission import Admission
from gateway.http.request.context import CONTEXT, Context
from gateway.log.ports import Log
from gateway.streaming.consumer_pages import GivenPage, PeerConnection, is_repeated
from gateway.streaming.consumer_reader import ConsumerReader
from gateway.streaming.consumers.claims import ClaimingReader, ConsumerClaim
from gateway.streaming.consumers.options import NEXT, PAGE, ack_mode, read_options
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow, further, is_ahead
from gateway.streaming.consumers.selection import selection_text

_ID_BYTES = 8
# Transports whose peers answer pings.
_ANSWERING = ("websocket", "audit.v1", "audit.v1.batch")


class ComingReader(NamedTuple):
    """Reader that may claim a consumer: how it acknowledges, the row as it is, and the gap that it
    begins with."""

    claim: ConsumerClaim
    mode: str
    row: ConsumerRow | None
    begin: Begin


async def coming_reader(
    request: web.Request, admission: Admission, query: Query, view: View, transport: str
) -> ComingReader:
    """Reader of a request; nothing is claimed yet. Raises `CursorGone` if the position is gone, and
    `InvalidRequest` if the transport cannot acknowledge as asked. `view` is bound to the log."""
    context, wanted = request.app[CONTEXT], query.consumer
    assert wanted is not None
    key = ConsumerKey(await lineage_of(context.keyring, admission.key), wanted.name)
    row = await context.consumer_store.get(*key)
    stored = "" if row is None else row.mode
    direct = not is_behind_proxy(request)
    mode = ack_mode(transport, wanted.ack, stored, direct=direct)
    access = admission.access
    reader = ClaimingReader(
        id=os.urandom(_ID_BYTES).hex(),
        key=admission.key.id,
        address=access.address,
        client=access.client[:200],
        transport=transport,
        ack=mode,
        answers=transport in _ANSWERING,
    )
    acknowledges, begin = await _begin_of(context, query, wanted, row, view)
    here = format_cursor(context.log.epoch, begin.offset)
    claim = ConsumerClaim(
        key=key,
        reader=reader,
        selection=selection_text(query.wanted, query.filter),
        begin=here,
        acknowledges=acknowledges,
        gone="" if row is None else row.cursor,
        goes_on=here if begin.gap is not None and row is not None else None,
        takeover=wanted.takeover,
        updates_selection=wanted.updates_selection,
    )
    if claim.goes_on is not None and row is not None and begin.gap is not None:
        # Before it goes on: what is given up is never given up in silence.
        await context.consumer_watch.record_gap(row, begin.gap)
    return ComingReader(claim, mode, row, begin)


async def _begin_of(
    context: Context, query: Query, wanted: ConsumerQuery, row: ConsumerRow | None, view: View
) -> tuple[str | None, Begin]:
    """What the reader acknowledges as it comes, and where it begins."""
    log = context.log
    if row is None:
        return None, await find_begin(log, query, view.begin)
    acknowledges = await _acknowledged(log, query, wanted, row)
    at = parse_cursor(further(row.cursor, acknowledges))
    resumed = msgspec.structs.replace(query, position=Position(after=at))
    try:
        return acknowledges, await find_begin(log, resumed, view.begin)
    except CursorGone as gone:
        raise CursorGone(
            f"the position of the consumer {row.name} is gone: {gone.detail}; or rewind it, by "
            f"POST /v1/consumers/{row.name}/rewind",
            code=gone.code,
            **gone.members,
        ) from None


async def _acknowledged(
    log: Log, query: Query, wanted: ConsumerQuery, row: ConsumerRow
) -> str | None:
    """Cursor that a request acknowledges by where it wants to begin; None if by none."""
    if query.position.after is None:
        return None
    after = format_cursor(*query.position.after)
    if wanted.resumed:
        # What an earlier page of a browser remembers may be of another time.
        return after if is_ahead(after, row.cursor) and not is_ahead(after, row.sent) else None
    same_epoch = query.position.after[0] == parse_cursor(row.cursor)[0]
    if same_epoch and not is_ahead(after, row.cursor):
        return None
    try:
        begin = await find_begin(log, msgspec.structs.replace(query, skip_gaps=False))
    except CursorGone:
        if not query.skip_gaps:
            raise
        # The log has no such position: it goes on at that of the consumer, or is told of the gap.
        return None
    return format_cursor(log.epoch, begin.offset)


async def claim_stream(context: Context, coming: ComingReader) -> ConsumerReader:
    """Claim a consumer for a stream. Raises `Conflict` while another reader is alive."""
    row = await context.consumers.claim(coming.claim)
    await context.consumer_watch.claimed(row)
    return ConsumerReader(
        row, coming.mode, read_options(row.options), context.clock, context.consumers.hurry
    )


def begin_of(row: ConsumerRow, view: View) -> int:
    """Offset that a reader of a claimed row begins behind."""
    return later(parse_cursor(row.cursor)[1], view.begin)


def refuse_consumer_with_ticket(query: Query) -> None:
    """Raise `InvalidRequest` for a ticket of a consumer's stream."""
    if query.consumer is not None:
        raise InvalidRequest(
            "consumer: the stream of a ticket has no durable position, as a browser keeps its own; "
            "read as a consumer with the key itself",
            parameter="consumer",
        )


# Pages


class ConsumerPage(NamedTuple):
    """Page that is to be given to a reader of a consumer."""

    row: ConsumerRow
    # The connection whose next page acknowledges this one.
    connection: PeerConnection | None
    gap: dict[str, Any] | None

    @property
    def position(self) -> Position:
        """Where it begins."""
        return Position(after=parse_cursor(self.row.cursor))


async def begin_page(
    request: web.Request, admission: Admission, query: Query, view: View
) -> ConsumerPage:
    """Page of a request that reads as a consumer; acknowledges what the request says it has.
    `view` is bound to the log."""
    context = request.app[CONTEXT]
    coming = await coming_reader(request, admission, query, view, PAGE)
    pages, before = context.consumer_pages, coming.row
    connection: PeerConnection | None = request.transport if coming.mode == NEXT else None
    if connection is None:
        row = await pages.read_once(coming.claim, before)
    else:
        row = await pages.read_next(coming.claim, connection)
    if before is not None and row.generation != before.generation:
        await context.consumer_watch.claimed(row)
    return ConsumerPage(row, connection, coming.begin.gap)


async def give_page(
    request: web.Request, page: ConsumerPage, events: Sequence[Event], cursor: str
) -> tuple[str, dict[str, Any] | None]:
    """Note that a page is given, up to a cursor; return its lease, and a notice, if any."""
    row, (_, sent) = page.row, parse_cursor(page.row.sent)
    again = sum(not distance(sent, event.offset) for event in events)
    given = GivenPage(cursor, len(events), again)
    await request.app[CONTEXT].consumer_pages.given(row, given, page.connection)
    lease = f"{row.generation}.{cursor}"
    if page.connection is None or not events or not is_repeated(row):
        return lease, None
    return lease, {
        "code": "page_repeated",
        "detail": "with ack=next a page is acknowledged by the next one on the same connection; "
        "connection after connection has asked for this page: keep the connection open, or use "
        "ack=explicit",
    }


def with_position(query: Query, page: ConsumerPage) -> Query:
    """Query that begins where the page does."""
    return msgspec.structs.replace(query, position=page.position)
