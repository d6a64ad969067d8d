"""Search of the log for one page, forwards or backwards, within the bounds of looking."""

from __future__ import annotations

from typing import Any, NamedTuple

from aiohttp import web

from gateway.access.usage.access import PULLED, Access
from gateway.cursor import advance, distance, earlier, later
from gateway.event import Event
from gateway.http.query.position import end_of, find_begin, find_least
from gateway.http.query.query import Query
from gateway.http.query.range import OPEN
from gateway.http.request.admission import Admission
from gateway.http.request.context import CONTEXT, Context
from gateway.ingest.gateway_event import ACCESS
from gateway.log.ports import Page, RetentionExceeded
from gateway.looking.looks import PlacedLook
from gateway.streaming.event_selector import EventSelector
from gateway.streaming.live.interest import StreamQuery
from gateway.tracing.spans import within

# Events per read, least and most.
_LEAST_READ_EVENTS, _READ_EVENTS = 50, 1000
_LEAST_PAGE_BYTES = 4096
# Seconds between two checks whether the key of a long search still may what it may.
_RECHECK_SECONDS = 0.25


class FoundPage(NamedTuple):
    """Events of a page in its order, its cursor as a position, and whether more may be behind it; a
    gap in front of them, if there is one."""

    events: list[Event]
    position: int
    has_more: bool
    gap: dict[str, Any] | None = None


class PageSearch:
    """Search for one page: reads until it is full or its end is reached, or until a bound of
    looking, the filter's budget, or what the key may hold in memory ends it.

    The page also ends when the key may hold no more bytes; one without any is refused.
    """

    def __init__(
        self,
        request: web.Request,
        query: Query,
        stream_query: StreamQuery,
        selector: EventSelector,
        admission: Admission,
    ) -> None:
        context = request.app[CONTEXT]
        self._context: Context = context
        self._request, self._query, self._admission = request, query, admission
        self._stream_query, self._selector = stream_query, selector
        self._log, self._clock = context.log, context.clock
        self._holding = admission.holding(request)
        self._hint = stream_query.scan_hint()
        self._limit = query.limit or 0
        # Usually most events are chosen. Otherwise reads grow.
        self._at_once = max(_LEAST_READ_EVENTS, min(self._limit, _READ_EVENTS))
        # What decides about the events that the store gives.
        self._renders = stream_query.filter is not None or stream_query.view.hides
        self._views = not self._renders and not context.log.can_read_raw(self._hint)
        self._look: PlacedLook = context.looks.look(
            admission.key.id, "page" if query.text is None else "text"
        )
        self._checked_at = 0.0
        self._events: list[Event] = []
        self._size = 0

    async def run(self) -> FoundPage:
        """The page. Raises `CursorGone`, `TooManyRequests`, and what `Admission.recheck` raises."""
        self._holding.take(_LEAST_PAGE_BYTES)
        self._checked_at = self._clock.monotonic()
        with within("look") as span, self._look:
            newest_first = self._query.ending.newest_first
            found = await (self._backwards() if newest_first else self._forwards())
            span.set("audit.offsets", self._look.offsets)
            span.set("audit.events", len(found.events))
            return found

    async def _forwards(self) -> FoundPage:
        context, log, access = self._context, self._log, self._admission.access
        began = self._clock.monotonic()
        begin = await find_begin(log, self._query, self._stream_query.view.begin)
        access.begin, access.behind = begin.offset, distance(begin.offset, log.head)
        reached = begin.offset
        while True:
            end = await end_of(log, self._query.ending)
            while reached < end and len(self._events) < self._limit:
                if not await self._go_on():
                    return self._found(reached, end, begin.gap)
                try:
                    most = earlier(end, advance(reached, self._look.room))
                    page = await log.read(reached, most, limit=self._most(), hint=self._hint)
                except RetentionExceeded:
                    # Retention deleted the next events; the page ends here.
                    if self._events:
                        return self._found(reached, end, begin.gap)
                    begin = await find_begin(log, self._query, self._stream_query.view.begin)
                    reached = access.begin = begin.offset
                    continue
                reached, full = await self._choose(page, distance(reached, page.reached))
                if full:
                    return self._found(reached, end, begin.gap)
            left = self._query.wait - (self._clock.monotonic() - began)
            enough = len(self._events) >= self._limit or any(
                _is_news(event, access) for event in self._events
            )
            until = self._query.ending.until
            over = until is not None and self._clock.now() * 1_000_000 >= until
            if enough or over or left <= 0 or not context.ready:
                return self._found(reached, end, begin.gap)
            self._look.leave()
            await _growth(context, reached, left)
            self._look.resume()
            if not await self._admission.renew(self._request):
                # The events were chosen by the earlier view: search again.
                self._events = []
                return self._found(begin.offset, log.head, begin.gap)

    async def _backwards(self) -> FoundPage:
        log, access = self._log, self._admission.access
        await log.catch_up()
        end = await end_of(log, self._query.ending)
        least = await find_least(log, self._query, self._stream_query.view.begin)
        reached = later(end, least)
        access.end, access.behind = reached, distance(least, reached)
        full = False
        while reached > least and len(self._events) < self._limit and not full:
            if not await self._go_on():
                break
            try:
                down_to = later(least, advance(reached, -self._look.room))
                page = await log.read_back(down_to, reached, limit=self._most(), hint=self._hint)
            except RetentionExceeded:
                reached = least
                break
            before = reached
            reached, full = await self._choose(page, distance(page.reached, before))
        access.begin = reached
        # The cursor of an event names it: only events before it are wanted next.
        return FoundPage(self._events, advance(reached, 1), reached > later(least, log.floor))

    async def _go_on(self) -> bool:
        """Whether the look may go on, and the key still may look."""
        if not await self._look.go_on():
            return False
        now = self._clock.monotonic()
        if now - self._checked_at >= _RECHECK_SECONDS:
            await self._admission.recheck()
            self._checked_at = self._clock.monotonic()
        return True

    def _most(self) -> int:
        """Most events of the next read."""
        return self._look.events(self._at_once, viewed=self._views, rendered=self._renders)

    async def _choose(self, page: Page, looked_at: int) -> tuple[int, bool]:
        """Take the chosen events of a read; return how far that reaches, and whether no more can be
        taken."""
        self._at_once = min(2 * self._at_once, _READ_EVENTS)
        count = len(page.events)
        self._look.spend(
            looked_at, viewed=count if self._views else 0, rendered=count if self._renders else 0
        )
        chosen, looked = await self._selector.select(page.events)
        room = self._limit - len(self._events)
        self._events += chosen[:room]
        reached = self._reached(page, looked)
        if len(chosen) > room:
            reached = self._behind(self._events[-1])
        more = sum(len(event.json) for event in chosen)
        self._size += more
        full = (
            not self._holding.grow(more)
            or self._selector.exhausted
            or self._size > self._context.looks.bounds.answer_bytes
        )
        return reached, full

    def _reached(self, page: Page, looked: int) -> int:
        """How far a search is that has examined so many events of a read."""
        return page.reached if looked == len(page.events) else self._behind(page.events[looked - 1])

    def _behind(self, event: Event) -> int:
        """Position behind an event, in the order of the search."""
        return advance(event.offset, -1) if self._query.ending.newest_first else event.offset

    def _found(self, reached: int, end: int, gap: dict[str, Any] | None) -> FoundPage:
        # More may have come meanwhile.
        end = self._log.head if self._query.ending == OPEN else end
        return FoundPage(self._events, reached, reached < end, gap)


def _is_news(event: Event, access: Access) -> bool:
    """Whether an event ends the wait; records of the key's own pulls always would."""
    return not (
        event.category == ACCESS and event.action == PULLED and event.actor == access.key_id
    )


async def _growth(context: Context, beyond: int, seconds: float) -> None:
    """Wait until the log grows beyond an offset, the time is over, or the gateway stops."""
    await context.appends.until(lambda: context.log.head > beyond or not context.ready, seconds)
