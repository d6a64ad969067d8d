"""`/v1/events`: pull a page, or one event by id."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
from aiohttp import web

from gateway.access.credentials.token import looks_like_token
from gateway.access.keys.key import Key
from gateway.access.usage.access import PULLED, READ, Access
from gateway.cursor import distance, format_cursor
from gateway.errors import Conflict, NotAcceptable, NotFound, TooManyRequests
from gateway.event import Event
from gateway.formats.cloudevents import BATCH_TYPE, EVENT_TYPE, cloudevents_batch
from gateway.formats.registry import NATIVE
from gateway.http.query.position import find_begin
from gateway.http.query.query import Query, parse_by_id, parse_page
from gateway.http.request.access_logging import log_out_of_scope, log_query
from gateway.http.request.admission import Admission
from gateway.http.request.body import NDJSON_TYPES
from gateway.http.request.consumer_access import (
    ConsumerPage,
    begin_page,
    give_page,
    with_position,
)
from gateway.http.request.context import CONTEXT, Context
from gateway.http.response.accept import accepts_gzip, best_kind
from gateway.http.response.answer import Answer
from gateway.http.response.answers import PageAnswer
from gateway.http.response.problem import key_in_url
from gateway.ingest.gateway_event import ACCESS
from gateway.log.bound_view import bound_view
from gateway.log.ports import FOUND_EVENTS, RetentionExceeded
from gateway.streaming.event_selector import EventSelector
from gateway.streaming.formatting import format_in_slices
from gateway.streaming.live.filter_charges import EXCEEDED
from gateway.streaming.live.interest import StreamQuery
from gateway.wire.formatted import as_json
from gateway.wire.framing import control_json

# Events per read, least and most.
_LEAST_READ_EVENTS, _READ_EVENTS = 50, 1000
# A page of large events ends before its limit, because it is held in memory.
_PAGE_BYTES = 4 << 20
_LEAST_PAGE_BYTES = 4096
# Bytes from which compression gains something, and from which a thread does it.
_WORTH_COMPRESSING = 1024
_COMPRESS_AT_ONCE = 32 * 1024
# Tenants named for an id of several events.
_MOST_TENANTS = 100
# Seconds after which a page that finds little ends; its cursor has moved.
_SCAN_SECONDS = 2.0
# Type of an event in a format that is not JSON.
_TEXT = "text/plain; charset=utf-8"


async def pull(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/events`."""
    key, view, access = admission.key, admission.view, admission.access
    query = parse_page(request.query.items(), context.clock.now())
    kind = _kind(request, query.format, context)
    # `Accept` names a format where none is named.
    name = "cloudevents" if kind == BATCH_TYPE else query.format
    format = context.wires.formats[name or "native"]
    most = admission.most_events(request)
    if query.filter is not None and query.filter.counted:
        refuse_costly(context, key)
    query = msgspec.structs.replace(query, limit=min(query.limit or 0, most))
    bound = await bound_view(context.log, view, context.clock.now())
    stream_query = StreamQuery(query.wanted, bound, query.filter)
    notice = log_query(access, request.query.items(), query, view)
    consumed: ConsumerPage | None = None
    if query.consumer is not None:
        consumed = await begin_page(request, admission, query, bound)
        query = with_position(query, consumed)
    selector = EventSelector(stream_query, context.work, key.id, context.work.filters.request_steps)
    events, reached, gap = await _collect(request, query, stream_query, selector, admission)
    encoded = [event.json for event in events]
    if format is not NATIVE:
        encoded = await format_in_slices(format, encoded, context.work.slices(key.id))
        admission.holding(request).take(sum(map(len, encoded)))
    # Searching may have taken long.
    events, reached = await admission.deliver(events, reached)
    del encoded[len(events) :]
    access.action, access.end = PULLED, reached
    cursor = format_cursor(context.log.epoch, reached)
    has_more = reached < context.log.head
    notice, lease = _exceeded(selector.cost.exceeded) or notice, ""
    if consumed is not None:
        lease, repeated = await give_page(request, consumed, events, cursor)
        notice, gap = notice or repeated, consumed.gap or gap
    if kind == "application/json":
        shown = [msgspec.Raw(one) for one in as_json(format, encoded)]
        page = PageAnswer(shown, cursor, has_more, gap, notice, lease)
        return _page(request, msgspec.json.encode(page), kind, {})
    headers = {"Audit-Cursor": cursor, "Audit-Has-More": "true" if has_more else "false"}
    said = {"gap": gap, "notice": notice}
    if kind == BATCH_TYPE:
        # It has no place for anything but events.
        headers |= {
            f"Audit-{name.title()}": json.dumps(members)
            for name, members in said.items()
            if members is not None
        }
        return _page(request, cloudevents_batch(encoded), kind, headers)
    body = b"".join([b"%b\n" % one for one in encoded])
    for name, members in said.items():
        if members is not None:
            body = control_json(name, members) + b"\n" + body
    return _page(request, body, kind if format.json else "text/plain", headers)


def _page(request: web.Request, body: bytes, kind: str, headers: dict[str, str]) -> web.Response:
    response = web.Response(
        body=body,
        content_type=kind,
        charset="utf-8" if kind.startswith("text/") else None,
        headers={"Cache-Control": "no-store", "Vary": "Accept-Encoding", **headers},
        zlib_executor_size=_COMPRESS_AT_ONCE,
    )
    if len(body) >= _WORTH_COMPRESSING and accepts_gzip(request):
        response.enable_compression(web.ContentCoding.gzip)
    return response


async def by_id(request: web.Request, context: Context, admission: Admission) -> Answer:
    """`GET /v1/events/{id}`."""
    key, view, access = admission.key, admission.view, admission.access
    admission.most_events(request)
    tenant, chosen = parse_by_id(request.query.items())
    kind = _kind_of_one(request, chosen, context)
    format = context.wires.formats["cloudevents" if kind == EVENT_TYPE else chosen or "native"]
    event_id = request.match_info["id"]
    project = (await bound_view(context.log, view, context.clock.now())).projection()
    found: Event | None = None
    tenants: list[str] = []
    hidden_categories: set[str] = set()
    hidden_tenants = {tenant} if tenant else set()
    after: int | None = 0
    while after is not None and len(tenants) < _MOST_TENANTS:
        there = await context.log.find(event_id, tenant, after)
        for event in there:
            seen = project(event)
            if seen is None:
                if len(hidden_tenants) < _MOST_TENANTS:
                    hidden_categories.add(event.category)
                    hidden_tenants.add(event.tenant)
            else:
                found = found or seen
                tenants.append(event.tenant)
        after = there[-1].offset if len(there) == FOUND_EVENTS else None
        if after is not None:
            await context.work.turn(key.id)
    # Before any answer: even a 404 or the tenants of an id are for the key only.
    await admission.recheck()
    if found is None:
        log_out_of_scope(access, view, hidden_categories, sorted(hidden_tenants))
        if looks_like_token(event_id):
            raise key_in_url()
        raise NotFound("no event with this id that this key may see")
    if len(tenants) > 1:
        raise Conflict(
            "several tenants have an event with this id; add tenant=",
            code="ambiguous_id",
            tenants=sorted(tenants),
        )
    admission.holding(request).take(len(found.json))
    admission.charge([len(found.json)])
    access.action, access.about = READ, f"event:{found.tenant}/{event_id}"
    return Answer(format.encode(found.json), kind if format.json else _TEXT)


async def _collect(
    request: web.Request,
    query: Query,
    stream_query: StreamQuery,
    selector: EventSelector,
    admission: Admission,
) -> tuple[list[Event], int, dict[str, Any] | None]:
    """Read until the page is full or the head is reached, or until time or the filter's budget is
    spent.

    The page also ends when the key may hold no more bytes; one without any is refused.
    """
    context, access, holding = request.app[CONTEXT], admission.access, admission.holding(request)
    log, clock = context.log, context.clock
    holding.take(_LEAST_PAGE_BYTES)
    begin = await find_begin(log, query, stream_query.view.begin)
    access.begin, access.behind = begin.offset, distance(begin.offset, log.head)
    hint = stream_query.scan_hint()
    limit = query.limit or 0
    began = clock.monotonic()
    # Usually most events are chosen. Otherwise reads grow.
    at_once = max(_LEAST_READ_EVENTS, min(limit, _READ_EVENTS))
    events: list[Event] = []
    size = 0
    reached = begin.offset
    while True:
        while reached < log.head and len(events) < limit:
            try:
                page = await log.read(reached, log.head, limit=at_once, hint=hint)
            except RetentionExceeded:
                # Retention deleted the next events; the page ends here.
                if events:
                    return events, reached, begin.gap
                begin = await find_begin(log, query, stream_query.view.begin)
                reached = access.begin = begin.offset
                continue
            at_once = min(2 * at_once, _READ_EVENTS)
            chosen, looked = await selector.select(page.events)
            room = limit - len(events)
            events += chosen[:room]
            reached = page.reached_by(looked)
            if len(chosen) > room:
                reached = events[-1].offset
            more = sum(len(event.json) for event in chosen)
            size += more
            if not holding.grow(more) or selector.exhausted or size > _PAGE_BYTES:
                return events, reached, begin.gap
            if clock.monotonic() - began > _SCAN_SECONDS:
                return events, reached, begin.gap
        left = query.wait - (clock.monotonic() - began)
        enough = len(events) >= limit or any(_is_news(event, access) for event in events)
        if enough or left <= 0 or not context.ready:
            return events, reached, begin.gap
        await _growth(context, reached, left)
        if not await admission.renew(request):
            # The events were chosen by the earlier view: search again.
            return [], begin.offset, begin.gap


def refuse_costly(context: Context, key: Key) -> None:
    """Raise `TooManyRequests` while the filters of a key have used up their share."""
    wait = context.work.wait(key.id)
    if wait:
        context.work.totals.refused += 1
        raise TooManyRequests(
            "the filters of this key have used up their share of the processor "
            "(limits.filter_percent); wait for Retry-After seconds, and narrow them with selectors",
            code="filter_share_used_up",
            retry_after=max(1, math.ceil(wait)),
        )


def _exceeded(events: int) -> dict[str, Any] | None:
    """Notice of a page whose filter exceeded its budget on some events."""
    if not events:
        return None
    return {"code": "filter_cost_exceeded", "events": events, "detail": EXCEEDED}


def _is_news(event: Event, access: Access) -> bool:
    """Whether an event ends the wait; records of the key's own pulls always would."""
    return not (
        event.category == ACCESS and event.action == PULLED and event.actor == access.key_id
    )


async def _growth(context: Context, beyond: int, seconds: float) -> None:
    """Wait until the log grows beyond an offset, the time is over, or the gateway stops."""
    await context.appends.until(lambda: context.log.head > beyond or not context.ready, seconds)


def _kind(request: web.Request, format: str | None, context: Context) -> str:
    """Media type of a page: what `Accept` prefers of what the format can be."""
    kinds: tuple[str, ...] = ("application/json", *NDJSON_TYPES)
    if format in (None, "cloudevents"):
        kinds += (BATCH_TYPE,)
    elif not context.wires.formats[format].json:
        kinds += ("text/plain",)
    kind = best_kind(request, kinds)
    if kind is None:
        raise NotAcceptable(f"a page of this format comes as {', '.join(kinds)}")
    return "application/x-ndjson" if kind in NDJSON_TYPES else kind


def _kind_of_one(request: web.Request, format: str | None, context: Context) -> str:
    """Media type of one event, which takes no note of `Accept` but for CloudEvents."""
    if format in (None, "cloudevents"):
        kinds = ("application/json", EVENT_TYPE)
        return best_kind(request, kinds) or kinds[0]
    return "application/json"
