"""The log in memory, simple enough to be the measure of the others."""

from __future__ import annotations

import secrets
from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import NamedTuple

from gateway.clock import Clock, format_rfc3339
from gateway.cursor import JSON_PREFIX, distance, format_cursor, new_epoch
from gateway.event import Draft, Event
from gateway.filters.scope import Test, all_of, any_of
from gateway.histogram import Histogram
from gateway.log.counts import BLOCK_OFFSETS, Counts, EventCounter, Grouping
from gateway.log.identity import KeyedValues, other_id
from gateway.log.ports import FOUND_EVENTS, Appended, Page, RawPage, RetentionExceeded, ScanHint

# Bounds how long one read blocks the event loop.
_SCAN = 10_000
_PAGE_BYTES = 256 * 1024
_TRIM_EVENTS = 5_000


class _Kept(NamedTuple):
    """Stored event, with the id it was sent with, and its stored id and content value."""

    recorded_at: int
    sent: str
    id: str
    content: bytes | None
    bytes: int


class MemoryLog:
    """`Log` in the memory of this process: every promise of the port except durability.

    Its epoch ends with the process. Each call completes within one step of the event
    loop and never raises `Unavailable`.
    """

    degraded_reason = None
    polls = False
    renamed = 0

    def __init__(self, clock: Clock) -> None:
        self.read_seconds = Histogram()
        self._clock = clock
        self.epoch = new_epoch()
        self._events: list[Event] = []
        self._kept: list[_Kept] = []
        self._values = KeyedValues(secrets.token_bytes(32))
        # Offsets by id and tenant: of the event stored under an id, and of those sent with it.
        self._standing: dict[str, dict[str, int]] = {}
        self._sent: dict[tuple[str, str], list[int]] = {}
        self.floor = self._bytes = self._recorded_at = 0
        self._listeners: list[Callable[[], None]] = []

    @property
    def head(self) -> int:
        return self.floor + len(self._events)

    def poll_now(self) -> None:
        pass

    def on_append(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    async def append(self, batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        # The wall clock may step back; `recorded_at` may not.
        self._recorded_at = max(self._recorded_at, int(self._clock.now() * 1_000_000))
        stamp = format_rfc3339(self._recorded_at).encode()
        before = self.head
        results = [self._append_batch(batch, stamp) for batch in batches]
        if self.head > before:
            for listener in self._listeners:
                listener()
        return results

    async def catch_up(self) -> None:
        """Return at once: this process is the only writer."""

    async def read(
        self, after: int, until: int, *, limit: int, hint: ScanHint | None = None
    ) -> Page:
        return self._scan(after, until, limit, hint)

    async def read_back(
        self, after: int, until: int, *, limit: int, hint: ScanHint | None = None
    ) -> Page:
        if until < self.floor:
            raise RetentionExceeded
        until = min(until, self.head)
        least = max(after, self.floor, until - _SCAN)
        wanted = _test(hint)
        events: list[Event] = []
        size = 0
        for place in range(until - self.floor - 1, least - self.floor - 1, -1):
            event = self._events[place]
            if not wanted(event):
                continue
            events.append(event)
            size += len(event.json)
            if len(events) == limit or size >= _PAGE_BYTES:
                least = event.offset - 1
                break
        return Page(events, min(after if least <= self.floor else least, until))

    def can_read_raw(self, hint: ScanHint) -> bool:
        return hint.complete

    async def read_raw(self, after: int, until: int, *, limit: int, hint: ScanHint) -> RawPage:
        assert hint.complete, "only where can_read_raw() says so"
        page = self._scan(after, until, limit, hint)
        return RawPage.of([event.json for event in page.events], page.reached)

    async def count(self, after: int, until: int, *, hint: ScanHint, grouping: Grouping) -> Counts:
        assert hint.complete, "only where can_read_raw() says so"
        assert distance(after, until) <= BLOCK_OFFSETS
        wanted, counter = _test(hint), EventCounter(grouping)
        for event in self._events[max(0, after - self.floor) : max(0, until - self.floor)]:
            if wanted(event):
                counter.add(event)
        return counter.counts

    async def find(self, event_id: str, tenant: str | None, after: int = 0) -> list[Event]:
        places = self._standing.get(event_id, {})
        found = sorted(
            place for owner, place in places.items() if tenant in (None, owner) and place > after
        )
        return [self._events[place - self.floor - 1] for place in found[:FOUND_EVENTS]]

    async def last_before(self, micros: int) -> int:
        return self.floor + bisect_left(self._kept, micros, key=attrgetter("recorded_at"))

    async def last_before_each(self, micros: Sequence[int]) -> list[int]:
        return [await self.last_before(one) for one in micros]

    async def trim(self, before_micros: int | None, max_bytes: int | None) -> int:
        deleted = 0
        for event, kept in zip(self._events[:_TRIM_EVENTS], self._kept, strict=False):
            too_old = before_micros is not None and kept.recorded_at < before_micros
            if not too_old and not (max_bytes is not None and self._bytes > max_bytes):
                break
            self._bytes -= kept.bytes
            owners = self._standing[kept.id]
            del owners[event.tenant]
            if not owners:
                del self._standing[kept.id]
            sent = self._sent[kept.sent, event.tenant]
            sent.remove(event.offset)
            if not sent:
                del self._sent[kept.sent, event.tenant]
            deleted += 1
        del self._events[:deleted], self._kept[:deleted]
        self.floor += deleted
        return deleted

    async def close(self) -> None:
        """Return at once: there is nothing to release."""

    def _append_batch(self, batch: Sequence[Draft], stamp: bytes) -> Appended:
        if not batch:
            return Appended(0, 0, 0, 0)
        before = self.head
        places = []
        conflicts = 0
        for draft in batch:
            content = self._values.content(draft.content)
            known, place = self._known(draft, content)
            if not known:
                name = self._free_id(draft, content)
                conflicts += name != draft.id
                place = self._add(draft, name, content, stamp)
            if place is not None:
                places.append(place)
        accepted = self.head - before
        return Appended.at(accepted, len(batch) - accepted, places, self.head, conflicts)

    def _known(self, draft: Draft, content: bytes | None) -> tuple[bool, int | None]:
        """Whether the event is a duplicate, and its offset; None if the sender may not learn it."""
        places = list(self._sent.get((draft.id, draft.tenant), ()))
        standing = self._standing.get(draft.id, {}).get(draft.tenant)
        if standing is not None:
            places.append(standing)
        contents = [self._kept[place - self.floor - 1].content for place in places]
        if content is not None and content in contents:
            return True, places[contents.index(content)]
        return bool(places) and (content is None or None in contents), None

    def _free_id(self, draft: Draft, content: bytes | None) -> str:
        name = draft.id
        while draft.tenant in self._standing.get(name, {}):
            assert content is not None
            name = other_id(draft.id, content)
            content = self._values.content(name.encode())
        return name

    def _add(self, draft: Draft, name: str, content: bytes | None, stamp: bytes) -> int:
        offset = self.head + 1
        self._standing.setdefault(name, {})[draft.tenant] = offset
        self._sent.setdefault((draft.id, draft.tenant), []).append(offset)
        body = draft.stored(stamp, name)
        cursor = format_cursor(self.epoch, offset).encode()
        self._events.append(
            Event(
                offset, draft.tenant, draft.category, draft.action, draft.outcome,
                draft.severity, draft.actor, draft.resources, cursor,
                b'%b%b",%b' % (JSON_PREFIX, cursor, body),
            )
        )  # fmt: skip
        self._kept.append(_Kept(self._recorded_at, draft.id, name, content, len(body)))
        self._bytes += len(body)
        return offset

    def _scan(self, after: int, until: int, limit: int, hint: ScanHint | None) -> Page:
        if after < self.floor:
            raise RetentionExceeded
        until = min(until, self.head, after + _SCAN)
        wanted = _test(hint)
        events: list[Event] = []
        size = 0
        for place in range(after - self.floor, until - self.floor):
            event = self._events[place]
            if not wanted(event):
                continue
            events.append(event)
            size += len(event.json)
            if len(events) == limit or size >= _PAGE_BYTES:
                return Page(events, event.offset)
        return Page(events, max(after, until))


def _test(hint: ScanHint | None) -> Test:
    if hint is None:
        return lambda event: True
    allowed = any_of([scope.compile() for scope in hint.allowed])
    return all_of([hint.wanted.compile(), allowed])
