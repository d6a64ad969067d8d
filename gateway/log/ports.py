"""Ports to durable state, and what every adapter promises.

One contract suite (`tests/contract`) runs over all adapters.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from gateway.cursor import IN_JSON, distance, parse_cursor
from gateway.errors import Unavailable
from gateway.event import Draft, Event
from gateway.filters.scope import Scope
from gateway.histogram import Histogram
from gateway.log.counts import Counts, Grouping

# Code of the permanent reason: the store now holds another log than the one opened.
REPLACED = "log_replaced"


class Appended(msgspec.Struct, frozen=True):
    """Result of one batch. `first` and `last` are the lowest and highest offset of its events,
    duplicates at their old offsets; 0 for an empty batch, and the head if nothing may be told.
    `conflicts` counts events stored under another id, as theirs was taken."""

    accepted: int
    duplicates: int
    first: int
    last: int
    conflicts: int = 0

    @classmethod
    def at(
        cls, accepted: int, duplicates: int, places: Sequence[int], head: int, conflicts: int = 0
    ) -> Appended:
        """Result for events at these places; there are none if duplicates may not be told of."""
        first, last = (min(places), max(places)) if places else (head, head)
        return cls(accepted, duplicates, first, last, conflicts)


class Page(msgspec.Struct, frozen=True):
    """Events of one read, in its order, and how far it scanned: all events with `after < offset <=
    reached` that may be wanted are in `events`; read backwards, all with `reached < offset <=
    until`."""

    events: list[Event]
    reached: int

    def reached_by(self, looked: int) -> int:
        """How far a reader is that has examined so many of the events."""
        return self.reached if looked == len(self.events) else self.events[looked - 1].offset


class ScanHint(msgspec.Struct, frozen=True):
    """Hint of what is wanted: events in `wanted` and in one of `allowed`.

    A store may use it to read less, and `read` may return more: the caller checks every event
    itself. `complete` says that an event is wanted if and only if it is in these scopes, which
    `read_raw` needs. Each of `needles`, in small letters of ASCII, stands in the JSON of a wanted
    event as it is, letters in either case, unless that JSON holds a backslash; a store uses them
    only where SQL means the same as the scopes.
    """

    wanted: Scope
    allowed: tuple[Scope, ...]
    complete: bool = False
    needles: tuple[str, ...] = ()


class RawPage(msgspec.Struct, frozen=True):
    """Native JSON of the events of one read, one per line, and how far it scanned."""

    text: bytes
    count: int
    reached: int

    @classmethod
    def of(cls, lines: list[bytes], reached: int) -> RawPage:
        return cls(b"\n".join(lines), len(lines), reached)

    @property
    def lines(self) -> list[bytes]:
        return self.text.split(b"\n") if self.count else []

    def offsets(self, after: int) -> Sequence[int]:
        """Offset of each event, if the page begins behind `after`."""
        if self.count == distance(after, self.reached):
            return range(after + 1, self.reached + 1)
        return array("q", [parse_cursor(line[IN_JSON].decode())[1] for line in self.lines])


class RetentionExceeded(Exception):
    """Retention has deleted events behind the position that was to be read."""


class LogExtent(Protocol):
    """Extent of a log: the events behind `floor`, up to `head`."""

    @property
    def epoch(self) -> str:
        """Name of this life of the log."""

    @property
    def head(self) -> int:
        """Newest offset; 0 if there never was an event."""

    @property
    def floor(self) -> int:
        """Newest offset that retention has deleted; 0 if none."""


class Log(LogExtent, Protocol):
    """Append-only log.

    Ordering: offsets are 1, 2, 3 ... without gaps, in one total order that never changes; whoever
    reads up to `head` has seen every event there will ever be up to it. `recorded_at` never
    decreases with the offset. Atomicity: a batch is appended whole or not at all. An event whose
    tenant has one of the same id and content is a duplicate and is not appended again; where either
    has no content, the id alone decides. With other content it is appended under an id made of
    both. Durability: when `append` returns, the batches survive the death of process and machine;
    `head` never names an event that could still be lost.
    """

    @property
    def degraded_reason(self) -> Unavailable | None:
        """Why nothing can be appended now, as far as that is known without trying. With the code
        `REPLACED` nothing can be read either, until the log is opened again."""

    @property
    def polls(self) -> bool:
        """Whether other processes append to it in ways that it only finds by polling the store;
        `poll_now`, called on a wake-up, then makes that sooner."""

    @property
    def renamed(self) -> int:
        """Number of rows of followed tables, which the store itself adds to the log, that this
        process stored under another id, as theirs was taken."""

    @property
    def read_seconds(self) -> Histogram:
        """Times of its reads that were not answered from memory."""

    def poll_now(self) -> None:
        """Poll the store at once, if the log `polls`; else do nothing."""

    def on_append(self, listener: Callable[[], None]) -> None:
        """Call `listener` in the event loop after `head` has moved. Only a hint to poll: calls may
        be merged, and one may be lost."""

    async def append(self, batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        """Store batches durably; the result has one entry per batch.

        Raises `Unavailable` when nothing of it was stored, or, with the code `outcome_unknown`,
        when the process that was to store it is gone.
        """

    async def catch_up(self) -> None:
        """Move `head` to where the log is now, if other processes append to it, too: what any of
        them acknowledged before this call can be read after it."""

    async def read(
        self, after: int, until: int, *, limit: int, hint: ScanHint | None = None
    ) -> Page:
        """Events with `after < offset <= until`, at most `limit` and a bounded number of bytes. May
        stop early with `reached < until`, but always advances. Raises `RetentionExceeded` if `after
        < floor`."""

    async def read_back(
        self, after: int, until: int, *, limit: int, hint: ScanHint | None = None
    ) -> Page:
        """The newest events with `after < offset <= until`, newest first: at most `limit` and a
        bounded number of bytes. All events with `reached < offset <= until` that may be wanted are
        in the page. May stop early with `reached > after`, but always moves down from `until`. What
        retention has deleted in the range counts as read: a page that comes to the floor has
        reached `after`, or `until` if that lies before. Raises `RetentionExceeded` if `until <
        floor`: then nothing of the range is left."""

    def can_read_raw(self, hint: ScanHint) -> bool:
        """Whether `read_raw` and `count` can answer this hint exactly."""

    async def read_raw(self, after: int, until: int, *, limit: int, hint: ScanHint) -> RawPage:
        """Like `read`, but exactly what is wanted, and as JSON alone. Only where `can_read_raw`
        says so."""

    async def count(self, after: int, until: int, *, hint: ScanHint, grouping: Grouping) -> Counts:
        """Numbers of exactly the wanted events with `after < offset <= until`, at most
        `BLOCK_OFFSETS` offsets, as of one moment; those that retention has deleted do not count.
        Only where `can_read_raw` says so."""

    async def find(self, event_id: str, tenant: str | None, after: int = 0) -> list[Event]:
        """Retained events behind `after` with that id, at most one per tenant: the first
        FOUND_EVENTS of them."""

    async def last_before(self, micros: int) -> int:
        """Newest offset recorded before that time (microseconds since 1970); `floor` if none is."""

    async def last_before_each(self, micros: Sequence[int]) -> list[int]:
        """`last_before` of each of several times, which do not decrease, as of one moment."""

    async def trim(self, before_micros: int | None, max_bytes: int | None) -> int:
        """Delete from the oldest end what was recorded before `before_micros` and what exceeds
        `max_bytes` of stored JSON. Return the number deleted, which is bounded: call again while it
        is not 0."""

    async def close(self) -> None:
        """Close the log; no call may follow."""


# Events of one id that are found at a time, as there may be one in each of very many tenants.
FOUND_EVENTS = 16
