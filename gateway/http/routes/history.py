"""`/v1/keys/{id}/history`: uses of a key, and changes to it."""

from __future__ import annotations

import msgspec
from aiohttp import web

from gateway.cursor import format_cursor
from gateway.event import Event
from gateway.filters.overlap import category_overlaps
from gateway.http.query.position import find_begin
from gateway.http.query.query import parse_history
from gateway.http.request.admission import Admission
from gateway.http.request.context import Context
from gateway.http.request.named_key import named_key
from gateway.http.response.answers import PageAnswer
from gateway.http.response.problem import json_response
from gateway.ingest.gateway_event import ACCESS, ANOMALY, KEYS
from gateway.log.bound_view import bound_view
from gateway.log.ports import Log, RetentionExceeded
from gateway.oversight.access_log.history import history_start, read_history

_SECONDS = 2.0
_LEAST_BYTES = 4096
_RECORDS = (ACCESS, KEYS, ANOMALY)
_NO_RECORDS = {
    "code": "no_records_granted",
    "detail": "uses and changes of keys are events, and no grant of this key pulls them: it needs "
    "`pull` of the category gateway.keys or gateway.access by name",
}


async def history(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/keys/{id}/history`: a page of the log's records about the key, oldest first.

    It shows what the caller may pull itself: records need the category `gateway.access`,
    `gateway.keys` or `gateway.anomaly` by name. To keys that may see none of them it says so.
    """
    log, access = context.log, admission.access
    # What `keys.read` allows is not about events.
    view = admission.view if admission.action == "pull" else None
    query = parse_history(request.query.items())
    limit = min(query.limit or 0, admission.most_events(request))
    if view is None or not any(
        category_overlaps(scope, name) for scope in view.scopes for name in _RECORDS
    ):
        # Not even whether the key exists.
        return _page([], log.head, log, _NO_RECORDS)
    key = await named_key(request)
    start = (await find_begin(log, query)).offset
    if query.position.after is None:
        start = await history_start(log, key.created_at)
    masks_for = (await bound_view(log, view, context.clock.now())).masks_for()
    admission.holding(request).take(_LEAST_BYTES)
    while True:
        try:
            page = await read_history(
                log,
                context.clock,
                key.id,
                start,
                masks_for,
                limit=limit,
                seconds=_SECONDS,
                slices=context.work.slices(admission.key.id),
                hold=admission.holding(request).grow,
            )
            break
        except RetentionExceeded:
            start = log.floor
    events, reached = await admission.deliver(page.events, page.reached)
    access.begin, access.end = start, reached
    return _page(events, reached, log)


def _page(
    events: list[Event], reached: int, log: Log, notice: dict[str, str] | None = None
) -> web.Response:
    shown, cursor = [msgspec.Raw(event.json) for event in events], format_cursor(log.epoch, reached)
    return json_response(PageAnswer(shown, cursor, reached < log.head, notice=notice))
