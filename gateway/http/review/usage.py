"""`GET /v1/usage`: how much all keys were used, by key or by owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from gateway.access.usage.totals import (
    BY,
    COUNTERS_SHOWN,
    UsageOfAll,
    UsageQuery,
    UsageSums,
)
from gateway.access.usage.windows import Counts
from gateway.clock import format_time, parse_duration
from gateway.errors import InvalidRequest
from gateway.http.query.values import Pairs, collect, number, one
from gateway.http.request.admission import Admission
from gateway.http.request.context import Context
from gateway.http.response.problem import json_response

MAX_ROWS = 1000
WEEK = 7 * 86400
_ROW_BYTES = 512
_TEXT = {"type": "string"}
USAGE_OF_ALL: tuple[dict[str, Any], ...] = (
    {"name": "window", "in": "query", "schema": {**_TEXT, "default": "24h"},
     "description": "How far back, in whole minutes up to 2 days, whole hours up to 60 or whole "
     "days up to 400."},
    {"name": "by", "in": "query", "schema": {"enum": list(BY), "default": "key"}},
    {"name": "order", "in": "query",
     "schema": {"enum": list(COUNTERS_SHOWN), "default": "events"},
     "description": "What the rows with most of come first."},
    {"name": "limit", "in": "query",
     "schema": {"type": "integer", "minimum": 1, "maximum": MAX_ROWS, "default": 100}},
)  # fmt: skip


def parse_usage_of_all(pairs: Pairs) -> UsageQuery:
    """Window, kind of rows, the counter that orders them, and the most of them."""
    values = collect(pairs)
    by, order = one(values, "by") or BY[0], one(values, "order") or "events"
    if by not in BY:
        raise InvalidRequest(f"by: one of {', '.join(BY)}", parameter="by")
    if order not in COUNTERS_SHOWN:
        raise InvalidRequest(f"order: one of {', '.join(COUNTERS_SHOWN)}", parameter="order")
    window = one(values, "window")
    return UsageQuery(
        parse_duration("24h" if window is None else window), by, COUNTERS_SHOWN.index(order),
        number(values, "limit", 1, MAX_ROWS) or 100,
    )  # fmt: skip


async def usage_of_all(
    request: web.Request, context: Context, admission: Admission
) -> web.Response:
    """`GET /v1/usage`: counts of the window that ends now, beside those of a week before."""
    query, now = parse_usage_of_all(request.query.items()), context.clock.now()
    slices, holding = context.work.slices(admission.key.id), admission.holding(request)
    sums = UsageSums(query)
    async for part in context.key_store.parts():
        ids = [key.id for key in part]
        used = await context.usage.totals(ids, query.window)
        before = await _week_before(context, ids, query.window)
        async for key in slices.each(part):
            if sums.add(key, used.get(key.id), before):
                holding.take(_ROW_BYTES)
    rows = sorted(sums.rows.values(), key=sums.place)
    await admission.recheck()
    return json_response(
        UsageOfAll(
            since=format_time(now - query.window), until=format_time(now), by=query.by,
            rows=rows[: query.limit], others=max(0, len(rows) - query.limit), total=sums.total,
            total_week_before=sums.total_before,
        )
    )  # fmt: skip


async def _week_before(
    context: Context, ids: Sequence[str], window: int
) -> Mapping[str, Counts] | None:
    """Counts of the same window a week before; None if those are not kept."""
    try:
        return await context.usage.totals(ids, window, WEEK)
    except InvalidRequest:
        return None
