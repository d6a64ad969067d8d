"""Newest events of a log, kept in memory by its writer.

The live tail reads every event right after it was written. Older events, and those not written by
this process, are read from the store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from gateway.cursor import JSON_PREFIX
from gateway.event import Draft, Event
from gateway.log.ports import Page

_MOST_EVENTS = 8_000
_MOST_BYTES = 4 << 20


class RecentEvents:
    """Bounded number of the newest events, without gaps, up to the last that was added."""

    def __init__(self, most_events: int = _MOST_EVENTS, most_bytes: int = _MOST_BYTES) -> None:
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._groups: deque[_Stored] = deque()
        self._next = 0
        self._events = self._bytes = 0

    def add(self, first: int, drafts: Sequence[Draft], bodies: Sequence[bytes]) -> None:
        """Add durable events, with the offsets from `first` on, and their JSON behind the
        cursor."""
        if first != self._next:
            self.clear()
        self._next = first + len(drafts)
        group = _Stored(first, drafts, bodies)
        self._groups.append(group)
        self._events += len(drafts)
        self._bytes += group.size
        while self._events > self._most_events or self._bytes > self._most_bytes:
            oldest = self._groups.popleft()
            self._events -= len(oldest.drafts)
            self._bytes -= oldest.size

    def clear(self) -> None:
        """Forget all, as an event was stored that was not added here."""
        self._groups.clear()
        self._next = self._events = self._bytes = 0

    def page(self, after: int, until: int, limit: int, size: int, head: bytes) -> Page | None:
        """Page behind `after`, up to `until`, of at most `limit` events, ended by the one that
        makes it `size` bytes; None if it is empty, or begins before the events in memory. `head` is
        the beginning of native JSON, up to the offset."""
        if not self._groups or not self._groups[0].first <= after + 1 <= until < self._next:
            return None
        events: list[Event] = []
        for group in self._between(after + 1, until):
            for offset, draft, body in group.part(after + 1, until):
                events.append(_event(offset, draft, body, head))
                size -= len(body)
                if size <= 0 or len(events) == limit:
                    return Page(events, offset)
        return Page(events, until)

    def _between(self, first: int, last: int) -> list[_Stored]:
        """Groups with these offsets, searched from the newest, which most reads want."""
        found: list[_Stored] = []
        for group in reversed(self._groups):
            if group.first <= last:
                found.append(group)
            if group.first <= first:
                break
        return found[::-1]


class _Stored:
    def __init__(self, first: int, drafts: Sequence[Draft], bodies: Sequence[bytes]) -> None:
        self.first = first
        self.drafts = drafts
        self.bodies = bodies
        self.size = sum(map(len, bodies))

    def part(self, first: int, last: int) -> Iterator[tuple[int, Draft, bytes]]:
        """Events between these offsets, both included."""
        begin, end = max(0, first - self.first), last - self.first + 1
        part = zip(self.drafts, self.bodies, strict=True)
        for place, (draft, body) in enumerate(islice(part, begin, end), begin):
            yield self.first + place, draft, body


def _event(offset: int, draft: Draft, body: bytes, head: bytes) -> Event:
    start = b"%b%020d" % (head, offset)
    return Event(
        offset, draft.tenant, draft.category, draft.action, draft.outcome, draft.severity,
        draft.actor, draft.resources, start[len(JSON_PREFIX) :], b'%b",%b' % (start, body),
    )  # fmt: skip
