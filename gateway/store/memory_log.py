"""The log in memory: every promise of `Log` but durability. For embedding and for tests."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from gateway.clock import Clock, format_rfc3339
from gateway.cursor import new_epoch
from gateway.event import Draft, Event
from gateway.match.scope import all_of, any_of
from gateway.store.ports import Appended, Lines, Narrowing, Overtaken, Page
from gateway.store.sqlite_batch import event_of, json_head, row_of

_PAGE_BYTES = 256 * 1024
_TRIM_EVENTS = 5_000


class MemoryLog:
    """`Log` in this process alone: gone with it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._epoch = new_epoch()
        self._json_head = json_head(self._epoch)
        self._events: list[Event] = []
        self._times: list[int] = []
        self._places: dict[tuple[str, str], int] = {}
        self._ids: list[tuple[str, str]] = []
        self._floor = 0
        self._listeners: list[Callable[[], None]] = []

    @property
    def epoch(self) -> str:
        return self._epoch

    @property
    def head(self) -> int:
        return self._floor + len(self._events)

    @property
    def floor(self) -> int:
        return self._floor

    def on_append(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    async def append(self, batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        now = max(self._times[-1] if self._times else 0, int(self._clock.now() * 1_000_000))
        stamp = format_rfc3339(now).encode()
        before = self.head
        results = [self._append_batch(batch, now, stamp) for batch in batches]
        if self.head > before:
            for listener in self._listeners:
                listener()
        return results

    def _append_batch(self, batch: Sequence[Draft], now: int, stamp: bytes) -> Appended:
        places = []
        accepted = 0
        for draft in batch:
            identity = (draft.id, draft.tenant)
            place = self._places.get(identity)
            if place is None:
                place = self._places[identity] = self.head + 1
                row = row_of(draft, now, stamp)
                self._events.append(event_of((place, *row[1:8], row[9]), self._json_head))
                self._times.append(now)
                self._ids.append(identity)
                accepted += 1
            places.append(place)
        if not places:
            return Appended(0, 0, 0, 0)
        return Appended(accepted, len(batch) - accepted, min(places), max(places))

    async def read(
        self, after: int, until: int, *, limit: int, narrowing: Narrowing | None = None
    ) -> Page:
        if after < self._floor:
            raise Overtaken
        until = min(until, self.head)
        events: list[Event] = []
        size = 0
        for event in self._events[after - self._floor : max(0, until - self._floor)][:limit]:
            events.append(event)
            size += len(event.json)
            if size >= _PAGE_BYTES:
                break
        return Page(events, events[-1].offset if events else after)

    def gives_lines(self, narrowing: Narrowing) -> bool:
        return narrowing.complete

    async def read_lines(
        self, after: int, until: int, *, limit: int, narrowing: Narrowing
    ) -> Lines:
        page = await self.read(after, until, limit=limit)
        allowed = any_of([scope.compile() for scope in narrowing.allowed])
        wanted = all_of([narrowing.wanted.compile(), allowed])
        return Lines([event.json for event in page.events if wanted(event)], page.reached)

    async def find(self, event_id: str, tenant: str | None) -> list[Event]:
        return [
            self._events[place - 1 - self._floor]
            for (known, owner), place in self._places.items()
            if known == event_id and tenant in (None, owner)
        ]

    async def last_before(self, micros: int) -> int:
        return self._floor + bisect_left(self._times, micros)

    async def trim(self, before_micros: int | None, max_bytes: int | None) -> int:
        size = sum(len(event.json) for event in self._events)
        deleted = 0
        for event, time in zip(self._events[:_TRIM_EVENTS], self._times, strict=False):
            too_old = before_micros is not None and time < before_micros
            if not too_old and not (max_bytes is not None and size > max_bytes):
                break
            size -= len(event.json)
            deleted += 1
        for identity in self._ids[:deleted]:
            del self._places[identity]
        del self._events[:deleted], self._times[:deleted], self._ids[:deleted]
        self._floor += deleted
        return deleted

    async def close(self) -> None:
        """Nothing to do."""
