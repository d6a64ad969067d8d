"""`/v1/events`: pull a page, or one event by id."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from aiohttp import web

from gateway.access.credentials.token import looks_like_token
from gateway.access.credentials.viewer import EXPORT
from gateway.access.usage.access import PULLED, READ
from gateway.cursor import advance, format_cursor
from gateway.errors import Conflict, NotAcceptable, NotFound
from gateway.event import Event
from gateway.formats.cloudevents import BATCH_TYPE, EVENT_TYPE, cloudevents_batch
from gateway.formats.csv import CSV_TYPE, CsvOptions, csv_head
from gateway.formats.registry import NATIVE
from gateway.http.pages.answer import page_response
from gateway.http.pages.around import Around, events_around
from gateway.http.pages.filter_share import refuse_costly
from gateway.http.pages.search import PageSearch
from gateway.http.query.csv_view import csv_of, not_csv
from gateway.http.query.query import parse_by_id, parse_page
from gateway.http.query.viewer import asked_by, refuse_unless
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
from gateway.http.response.accept import best_kind
from gateway.http.response.answer import Answer
from gateway.http.response.answers import AroundAnswer, PageAnswer
from gateway.http.response.export_plan import attachment
from gateway.http.response.problem import key_in_url
from gateway.log.bound_view import bound_view
from gateway.log.ports import FOUND_EVENTS
from gateway.streaming.event_selector import EventSelector
from gateway.streaming.formatting import format_in_slices
from gateway.streaming.live.filter_charges import EXCEEDED
from gateway.streaming.live.interest import StreamQuery
from gateway.wire.formatted import as_json
from gateway.wire.framing import control_json

# Tenants named for an id of several events.
_MOST_TENANTS = 100
# Type of an event in a format that is not JSON.
_TEXT = "text/plain; charset=utf-8"


async def pull(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/events`."""
    key, view, access = admission.key, admission.view, admission.access
    pairs = asked_by(admission.viewer, request.query.items())
    query = parse_page(pairs, context.clock.now())
    kind = _kind(request, query.format, context)
    # `Accept` names a format where none is named.
    name = "cloudevents" if kind == BATCH_TYPE else query.format
    format = context.wires.formats[name or "native"]
    most = admission.most_events(request)
    condition = query.condition
    if condition is not None and condition.counted:
        refuse_costly(context, key)
    query = msgspec.structs.replace(query, limit=min(query.limit or 0, most))
    bound = await bound_view(context.log, view, context.clock.now())
    options = CsvOptions()
    if kind == CSV_TYPE:
        refuse_unless(admission.viewer, EXPORT)
        options, format = csv_of(query, bound)
    elif query.csv is not None:
        raise not_csv()
    stream_query = StreamQuery(query.wanted, bound, condition)
    notice = log_query(access, pairs, query, view)
    consumed: ConsumerPage | None = None
    if query.consumer is not None:
        consumed = await begin_page(request, admission, query, bound)
        query = with_position(query, consumed)
    selector = EventSelector(stream_query, context.work, key.id, context.work.filters.request_steps)
    found = await PageSearch(request, query, stream_query, selector, admission).run()
    gap = found.gap
    encoded = [event.json for event in found.events]
    if format is not NATIVE:
        encoded = await format_in_slices(format, encoded, context.work.slices(key.id))
        admission.holding(request).take(sum(map(len, encoded)))
    # Searching may have taken long.
    events, position = await admission.deliver(found.events, found.position)
    del encoded[len(events) :]
    access.action = PULLED
    if query.ending.newest_first:
        access.begin = advance(position, -1)
    else:
        access.end = position
    cursor = format_cursor(context.log.epoch, position)
    has_more = found.has_more or len(events) < len(found.events)
    notice, lease = _exceeded(selector.cost.exceeded) or notice, ""
    if consumed is not None:
        lease, repeated = await give_page(request, consumed, events, cursor)
        notice, gap = notice or repeated, consumed.gap or gap
    if kind == "application/json":
        shown = [msgspec.Raw(one) for one in as_json(format, encoded)]
        page = PageAnswer(shown, cursor, has_more, gap, notice, lease)
        return await page_response(request, admission, msgspec.json.encode(page), kind, {})
    headers = {"Audit-Cursor": cursor, "Audit-Has-More": "true" if has_more else "false"}
    said = {"gap": gap, "notice": notice}
    if kind in (BATCH_TYPE, CSV_TYPE):
        # They have no place for anything but events.
        headers |= {
            f"Audit-{name.title()}": json.dumps(members)
            for name, members in said.items()
            if members is not None
        }
        if kind == CSV_TYPE:
            begin = format_cursor(context.log.epoch, access.begin)
            headers["Content-Disposition"] = attachment(key.id, begin, cursor, "csv")
            body = csv_head(options) + b"".join(encoded)
            return await page_response(request, admission, body, kind, headers)
        return await page_response(request, admission, cloudevents_batch(encoded), kind, headers)
    body = b"".join([b"%b\n" % one for one in encoded])
    for name, members in said.items():
        if members is not None:
            body = control_json(name, members) + b"\n" + body
    return await page_response(
        request, admission, body, kind if format.json else "text/plain", headers
    )


async def by_id(request: web.Request, context: Context, admission: Admission) -> web.StreamResponse:
    """`GET /v1/events/{id}`."""
    key, view, access = admission.key, admission.view, admission.access
    admission.most_events(request)
    tenant, chosen, around = parse_by_id(request.query.items())
    kind = _kind_of_one(request, chosen, context)
    format = context.wires.formats["cloudevents" if kind == EVENT_TYPE else chosen or "native"]
    event_id = request.match_info["id"]
    bound = await bound_view(context.log, view, context.clock.now())
    project = bound.projection()
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
    access.action, access.about = READ, f"event:{found.tenant}/{event_id}"
    if around is not None:
        beside = await events_around(request, admission, bound, found, around)
        return await _with_others(request, admission, found, beside, chosen or "native")
    admission.holding(request).take(len(found.json))
    admission.charge([len(found.json)])
    return Answer(format.encode(found.json), kind if format.json else _TEXT)


async def _with_others(
    request: web.Request, admission: Admission, event: Event, beside: Around, format_name: str
) -> web.Response:
    """Answer with an event and those beside it, as many as the key may be sent."""
    context = request.app[CONTEXT]
    format = context.wires.formats[format_name]
    # The nearest first: what exceeds the limits of the key is left out.
    nearest = [event, *beside.before[::-1], *beside.after]
    admission.holding(request).take(len(event.json))
    encoded = await format_in_slices(
        format, [one.json for one in nearest], context.work.slices(admission.key.id)
    )
    await admission.recheck()
    sent = admission.charge([len(one.json) for one in nearest])
    shown = [msgspec.Raw(one) for one in as_json(format, encoded[:sent])]
    before = len(beside.before)
    answer = AroundAnswer(
        shown[0], shown[1 : 1 + before][::-1], shown[1 + before :],
        beside.complete and sent == len(nearest),
    )  # fmt: skip
    return await page_response(
        request, admission, msgspec.json.encode(answer), "application/json", {}
    )


def _exceeded(events: int) -> dict[str, Any] | None:
    """Notice of a page whose filter exceeded its budget on some events."""
    if not events:
        return None
    return {"code": "filter_cost_exceeded", "events": events, "detail": EXCEEDED}


def _kind(request: web.Request, format: str | None, context: Context) -> str:
    """Media type of a page: what `Accept` prefers of what the format can be."""
    kinds: tuple[str, ...] = ("application/json", *NDJSON_TYPES)
    if format in (None, "cloudevents"):
        kinds += (BATCH_TYPE,)
    elif not context.wires.formats[format].json:
        kinds += ("text/plain",)
    kinds += (CSV_TYPE,)
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
