"""`/v1/counts`: numbers of events by time and by members, without the events."""

from __future__ import annotations

from collections.abc import Generator

import msgspec
from aiohttp import web
from msgspec import UNSET

from gateway.access.policy.decision import View
from gateway.access.policy.subsumption import scopes_overlap
from gateway.access.usage.access import COUNTED
from gateway.clock import format_rfc3339
from gateway.cursor import advance, distance, format_cursor, later
from gateway.errors import Forbidden
from gateway.filters.scope import Scope
from gateway.http.pages.answer import page_response
from gateway.http.pages.filter_share import refuse_costly
from gateway.http.query.counts import CountsQuery, parse_counts
from gateway.http.query.position import end_of, find_least
from gateway.http.query.viewer import asked_by
from gateway.http.request.access_logging import log_query
from gateway.http.request.admission import Admission
from gateway.http.request.context import Context
from gateway.http.response.answers import (
    CountedBucket,
    CountedFacet,
    CountedValue,
    CountsAnswer,
    LookedAt,
)
from gateway.log.bound_view import bound_view
from gateway.log.counts import Grouping
from gateway.log.ports import Log
from gateway.looking.buckets import buckets_between, choose_step, micros_of
from gateway.looking.condition import condition_of
from gateway.looking.tally import Facet, Tally
from gateway.streaming.counts.counting import Counted, Counting, CountRange, event_at
from gateway.streaming.live.interest import StreamQuery
from gateway.tracing.spans import within

# Bytes that a request holds until its answer is made.
_LEAST_BYTES = 4096
# Buckets that are written at a time.
_AT_ONCE = 200


async def count(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/counts`."""
    key, view, access = admission.key, admission.view, admission.access
    now = context.clock.now()
    pairs = asked_by(admission.viewer, request.query.items())
    asked = parse_counts(pairs, now)
    query = asked.query
    admission.most_events(request)
    condition = condition_of(query.filter, query.text)
    if condition is not None and condition.counted:
        refuse_costly(context, key)
    admission.holding(request).take(_LEAST_BYTES)
    log_query(access, pairs, query, view)
    _refuse_hidden(asked, view)
    log = context.log
    bound = await bound_view(log, view, now)
    between, step = await _range(log, asked, bound.begin, int(now * 1_000_000))
    grouping = Grouping(micros_of(step), asked.by)
    counting = Counting(
        log,
        StreamQuery(query.wanted, bound, condition),
        grouping,
        context.work,
        key.id,
        admission.recheck,
    )
    with within("look"), context.looks.look(key.id, "count") as look:
        counted = await counting.count(between, look, context.count_cache)
    if counted.complete and query.ending.before is None:
        _refuse_all_hidden(counted.tally)
    slices = context.work.slices(key.id)
    facets = await slices.run(counted.tally.facets(asked.top))
    buckets = await slices.run(_buckets(counted, between.ends, grouping))
    answer = CountsAnswer(
        since=format_rfc3339(counted.since),
        until=format_rfc3339(between.ends),
        step=step,
        total=counted.tally.total,
        complete=counted.complete,
        buckets=buckets,
        facets={member: _facet(member, facet) for member, facet in facets.items()},
        looked=_looked(log, counted, between),
        next=None if counted.complete else _cursor_behind(log, counted.reached),
    )
    body = msgspec.json.encode(answer)
    # Counting may have taken long.
    await admission.recheck()
    admission.holding(request).take(len(body))
    access.action, access.begin, access.end = COUNTED, counted.reached, between.until
    access.behind = distance(counted.reached, log.head)
    return await page_response(request, admission, body, "application/json", {})


async def _range(log: Log, asked: CountsQuery, not_before: int, now: int) -> tuple[CountRange, str]:
    """Range to count in, and the step of its buckets."""
    await log.catch_up()
    ending = asked.query.ending
    end = await end_of(log, ending)
    least = await find_least(log, asked.query, not_before)
    until = later(end, least)
    newest = await event_at(log, until) if until > least else None
    # An event may have been recorded by a clock that is a little ahead.
    first_free = 0 if newest is None else newest.recorded_at() + 1
    ends = max(now, first_free) if ending.until is None else ending.until
    step = choose_step(asked.step, asked.since, max(asked.since + 1, ends))
    if ending.before is not None and newest is not None:
        # The bucket of the newest event is the first of the rest, unless it was begun behind it.
        micros = micros_of(step)
        behind = await event_at(log, advance(end, 1))
        edge = (newest.recorded_at() // micros + 1) * micros
        if behind is not None and behind.recorded_at() < edge:
            edge = max(first_free, behind.recorded_at())
        ends = min(ends, edge)
    return CountRange(least, until, asked.since, max(asked.since, ends)), step


def _refuse_hidden(asked: CountsQuery, view: View) -> None:
    """Raise `Forbidden` if the key sees no actor of the events that it may count by actors."""
    if "actor" not in asked.by:
        return
    wanted: Scope = asked.query.wanted
    through = [rule for rule in view.rules if scopes_overlap(rule.scope, wanted)]
    if through and all(rule.masks.conceals("actor.id") for rule in through):
        raise _hidden("actor")


def _refuse_all_hidden(tally: Tally) -> None:
    for member, hidden in tally.hidden.items():
        if hidden and hidden == tally.total:
            raise _hidden(member)


def _hidden(member: str) -> Forbidden:
    return Forbidden(
        f"by: the grants of this key hide `{member}` in all of these events; leave it out",
        code="hidden_by_mask",
        member=member,
    )


def _buckets(
    counted: Counted, ends: int, grouping: Grouping
) -> Generator[None, None, list[CountedBucket]]:
    """Buckets of what was counted, also those without events."""
    there, micros = counted.tally.buckets, grouping.micros
    splits = "outcome" in grouping.members
    written: list[CountedBucket] = []
    for bucket in buckets_between(counted.since, ends, micros):
        number, outcomes = there.get(bucket, (0, {}))
        start = format_rfc3339(bucket * micros)
        written.append(CountedBucket(start, number, outcomes if splits else UNSET))
        if len(written) % _AT_ONCE == 0:
            yield
    return written


def _facet(member: str, facet: Facet) -> CountedFacet:
    values = [
        CountedValue(int(value) if member == "severity" else value, number)
        for value, number in facet.top
    ]
    return CountedFacet(values, facet.distinct, facet.others, facet.hidden)


def _looked(log: Log, counted: Counted, between: CountRange) -> LookedAt:
    events = distance(counted.reached, between.until)
    last = format_cursor(log.epoch, between.until)
    first = _cursor_behind(log, counted.reached) if events else last
    return LookedAt(first, last, events)


def _cursor_behind(log: Log, place: int) -> str:
    """Cursor of the event behind an offset."""
    return format_cursor(log.epoch, advance(place, 1))
