"""The ports to durable state: what every adapter promises, and no more.

One contract suite (`tests/contract`) runs over all adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from gateway.errors import Unavailable
from gateway.event import Draft, Event
from gateway.filters.scope import Scope
from gateway.histogram import Histogram

# The code of the reason that does not pass: what is there is another log than the one opened.
REPLACED = "log_replaced"


class Appended(msgspec.Struct, frozen=True):
    """What became of one batch. `first` and `last` are the lowest and highest
    offset of the batch's events, duplicates counted where they already stood;
    0 for an empty batch, and the head where nothing else may be told. `conflicts`
    counts the events that stand under another id, since theirs was taken."""

    accepted: int
    duplicates: int
    first: int
    last: int
    conflicts: int = 0

    @classmethod
    def at(
        cls, accepted: int, duplicates: int, places: Sequence[int], head: int, conflicts: int = 0
    ) -> Appended:
        """Of events at those places; there are none where duplicates may not be told of."""
        first, last = (min(places), max(places)) if places else (head, head)
        return cls(accepted, duplicates, first, last, conflicts)


class Page(msgspec.Struct, frozen=True):
    """Events of one read, and how far it looked: everything with
    `after < offset <= reached` that may be wanted is in `events`, in order."""

    events: list[Event]
    reached: int

    def reached_by(self, looked: int) -> int:
        """How far whoever looked at so many of its events has got."""
        return self.reached if looked == len(self.events) else self.events[looked - 1].offset


class ScanHint(msgspec.Struct, frozen=True):
    """A hint of what is wanted: events in `wanted` and in one of `allowed`.

    A store may use it to read less, and `read` may return more than it asks for:
    the caller checks every event itself. `complete` says that an event is wanted
    if and only if it is in these scopes, which is what `read_raw` needs.
    """

    wanted: Scope
    allowed: tuple[Scope, ...]
    complete: bool = False


class RawPage(msgspec.Struct, frozen=True):
    """The native JSON of the events of one read, a line each, and how far it looked."""

    text: bytes
    count: int
    reached: int

    @classmethod
    def of(cls, lines: list[bytes], reached: int) -> RawPage:
        return cls(b"\n".join(lines), len(lines), reached)

    @property
    def lines(self) -> list[bytes]:
        return self.text.split(b"\n") if self.count else []


class RetentionExceeded(Exception):
    """Retention has deleted events behind the position that was to be read."""


class LogExtent(Protocol):
    """What there is of a log: the events behind `floor`, up to `head`."""

    @property
    def epoch(self) -> str:
        """The name of this life of the log."""

    @property
    def head(self) -> int:
        """The newest offset; 0 if there never was an event."""

    @property
    def floor(self) -> int:
        """The newest offset that retention has deleted; 0 if none."""


class Log(LogExtent, Protocol):
    """The append-only log.

    Ordering: offsets are 1, 2, 3 ... without gaps, in one total order that
    never changes; whoever reads up to `head` has seen every event there will
    ever be up to it. `recorded_at` never decreases with the offset.
    Atomicity: a batch is appended whole or not at all. An event whose tenant
    has one of the same id and content is a duplicate and is not appended again;
    where either has no content, the id alone decides. With other content it is
    appended under an id that is made of both.
    Durability: when `append` returns, the batches survive the death of process
    and machine; `head` never names an event that could still be lost.
    """

    @property
    def degraded_reason(self) -> Unavailable | None:
        """Why nothing can be appended now, as far as that is known without trying. With the code
        `REPLACED` nothing can be read either, until the log is opened again."""

    @property
    def polls(self) -> bool:
        """Whether other processes append to it in ways that it only finds by asking the store:
        then `poll_now`, called when they tell of it, makes that sooner."""

    @property
    def renamed(self) -> int:
        """How many rows of followed tables, which the store itself puts into the log, this process
        has given another id since theirs was taken."""

    @property
    def read_seconds(self) -> Histogram:
        """How long its reads took that were not answered from memory."""

    def poll_now(self) -> None:
        """Ask the store for new events at once instead of at the next turn, where it `polls`; does
        nothing elsewhere."""

    def on_append(self, listener: Callable[[], None]) -> None:
        """Call `listener` in the event loop after `head` has moved.

        Only a hint to poll: calls may be merged, and one may be lost.
        """

    async def append(self, batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        """Store batches durably; the result has one entry per batch.

        Raises `Unavailable` when nothing of it was stored, or, with the code
        `outcome_unknown`, when whoever was to store it is gone.
        """

    async def catch_up(self) -> None:
        """Move `head` to where the log stands now, where other processes append to it, too:
        what any of them has acknowledged before this call can be read after it."""

    async def read(
        self, after: int, until: int, *, limit: int, hint: ScanHint | None = None
    ) -> Page:
        """Events with `after < offset <= until`, at most `limit` and a bounded
        number of bytes. May stop early with `reached < until`, but always
        advances. Raises `RetentionExceeded` if `after < floor`.
        """

    def can_read_raw(self, hint: ScanHint) -> bool:
        """Whether `read_raw` can answer this hint exactly."""

    async def read_raw(self, after: int, until: int, *, limit: int, hint: ScanHint) -> RawPage:
        """Like `read`, but exactly what is wanted and as JSON alone, without an object
        per event: nobody checks it again. Only where `can_read_raw` says so.
        """

    async def find(self, event_id: str, tenant: str | None, after: int = 0) -> list[Event]:
        """The retained events behind `after` that stand under that id, at most one per tenant: the
        first FOUND_EVENTS of them."""

    async def last_before(self, micros: int) -> int:
        """The newest offset recorded before that time (microseconds since 1970);
        `floor` if none is."""

    async def trim(self, before_micros: int | None, max_bytes: int | None) -> int:
        """Delete from the oldest end what was recorded before `before_micros` and
        what exceeds `max_bytes` of stored JSON. Returns the number deleted, which
        is bounded: call again while it is not 0."""

    async def close(self) -> None:
        """End cleanly; nothing may be called afterwards."""


# So many events of one id are found at a time: there may be one in each of very many tenants.
FOUND_EVENTS = 16
