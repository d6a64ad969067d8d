"""Events around another: those that its key sees next before it and behind it."""

from __future__ import annotations

from typing import NamedTuple

from aiohttp import web

from gateway.access.policy.decision import View
from gateway.cursor import parse_cursor
from gateway.event import Event
from gateway.filters.scope import EVERYTHING
from gateway.http.pages.search import FoundPage, PageSearch
from gateway.http.query.query import Query
from gateway.http.query.range import Ending
from gateway.http.query.values import Position
from gateway.http.request.admission import Admission
from gateway.http.request.context import CONTEXT
from gateway.streaming.event_selector import EventSelector
from gateway.streaming.live.interest import StreamQuery


class Around(NamedTuple):
    """Events before and behind another, in the order of the log; `complete` unless a bound of
    looking has ended the search for more."""

    before: list[Event]
    after: list[Event]
    complete: bool


async def events_around(
    request: web.Request, admission: Admission, view: View, event: Event, count: int
) -> Around:
    """So many events before and behind an event, in a view that is bound to the log."""
    access, cursor = admission.access, parse_cursor(event.cursor.decode())
    query = Query(
        Position(after=cursor), EVERYTHING, None, skip_gaps=True, follow=False, limit=count, wait=0
    )
    behind = await _found(request, admission, view, query)
    newest_first = Ending(before=cursor, newest_first=True)
    back = Query(
        Position(start="start"), EVERYTHING, None, skip_gaps=False, follow=False, limit=count,
        wait=0, ending=newest_first,
    )  # fmt: skip
    before = await _found(request, admission, view, back)
    access.end = behind.position
    ended = [_ended(found, count) for found in (before, behind)]
    return Around(before.events[::-1], behind.events, all(ended))


async def _found(request: web.Request, admission: Admission, view: View, query: Query) -> FoundPage:
    work = request.app[CONTEXT].work
    stream_query = StreamQuery(query.wanted, view, query.condition)
    selector = EventSelector(stream_query, work, admission.key.id, work.filters.request_steps)
    return await PageSearch(request, query, stream_query, selector, admission).run()


def _ended(found: FoundPage, count: int) -> bool:
    """Whether there is no more, or as many as were wanted."""
    return not found.has_more or len(found.events) >= count
