"""Access log: what keys are used for, as events of the log itself.

    log() -> one entry per (key, action, outcome, reason, address, route)
           -> written after a moment; repeats meanwhile are counted into the same event
           -> the log, through the writer, in batches, in the background

A first access is written almost at once. While it is repeated, its entry is written again after a
pause, which doubles up to a minute: a thousand requests a second are one event a minute, and a
client that reads this log does not feed itself. Merged accesses are counted and keep their details;
an entry in which they no longer fit is written early. While the log is away entries go on merging.
Memory is bounded: beyond that details are dropped, counts stay. An access that cannot be written
stops neither the access log nor its request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Protocol

import msgspec

from gateway.access.limits.limits import address_subject
from gateway.access.usage.access import CLOSED, INGESTED, Access
from gateway.clock import Clock, until_next_poll
from gateway.cursor import later
from gateway.errors import Unavailable
from gateway.event import Draft
from gateway.ingest.ids import new_ids
from gateway.log.ports import Appended
from gateway.oversight.access_log.access_entry import AccessEntry
from gateway.streaming.live.subscription import Subscription
from gateway.wire.framing import CLIENT_GONE, End

MOST_ENTRIES = 10_000
# Entries without a key, which can make up addresses.
MOST_KEYLESS = 500
_MOST_READY = 1_000
_MOST_CHARACTERS = 16 << 20
# Characters of what a client says of itself.
_MOST_TEXT = 1024
# How often an entry is written early for its parameters, until its rest is over.
_MOST_EARLY = 8
_BATCH = 100
_POLL_SECONDS = 0.25
_LONGEST_REST = 60.0
_CLOSING_SECONDS = 3.0
_LOGGER = logging.getLogger(__name__)

Identity = tuple[str, ...]


class Appender(Protocol):
    """Part of the writer that the access log needs."""

    async def append(self, batch: Sequence[Draft]) -> Appended:
        """Store a batch durably, or raise `Unavailable`."""


class AccessLogTimings(msgspec.Struct, frozen=True):
    """Seconds for which an access may wait to be written with others, for which its repeats are
    merged at first, and for which those of successful ingest requests are."""

    delay: float = 1.0
    merge: float = 5.0
    merge_ingest: float = 60.0


class AccessLog:
    """Takes accesses without waiting; writes them into the log in the background."""

    def __init__(
        self, writer: Appender, clock: Clock, epoch: str, timings: AccessLogTimings
    ) -> None:
        self._listeners: list[Callable[[Access], None]] = []
        # Counters since the start, for metrics.
        self.accesses = 0
        self.written = 0
        self.lost = 0
        self._writer = writer
        self._clock = clock
        self._epoch = epoch
        self._timings = timings
        self._ids: Iterator[str] = new_ids(clock.now)
        self._entries: dict[Identity, AccessEntry] = {}
        self._keyless = 0
        self._characters = 0
        self._due: list[tuple[float, int, Identity]] = []
        self._order = 0
        # Complete entries, and drafts being written, with their ids, so that a repeated attempt
        # stores each once.
        self._ready: list[AccessEntry] = []
        self._sending: list[Draft] = []
        self._lock = asyncio.Lock()

    def on_access(self, listener: Callable[[Access], None]) -> None:
        """Call `listener` with each access, before it is added."""
        self._listeners.append(listener)

    def log(self, access: Access) -> None:
        """Add an access. Costs a few microseconds."""
        self.accesses += access.times
        if len(access.client) > _MOST_TEXT or len(access.address) > _MOST_TEXT:
            access.client, access.address = access.client[:_MOST_TEXT], access.address[:_MOST_TEXT]
        for listener in self._listeners:
            try:
                listener(access)
            except Exception:
                # A failing listener must not fail the request.
                _LOGGER.exception("a use was not looked at, which is a bug")
        identity = _identity(access)
        entry = self._entries.get(identity)
        if entry is None:
            entry, identity = self._new_entry(access, identity)
        if (entry.full or entry.crowded) and access.key is not None and self._takes_early(entry):
            self._ready.append(entry)
            entry = self._entries[identity] = entry.successor()
            entry.early += 1
        size = entry.size
        entry.add(access, details=self._characters < _MOST_CHARACTERS)
        self._characters += entry.size - size

    def stream_closed(self, subscription: Subscription, end: End | None) -> None:
        """Log that a stream has ended: by the gateway (`end`), or by its peer."""
        opened = subscription.opened
        if opened is None:
            return
        access = use_of_stream(subscription, opened, self._clock.now())
        access.action, access.attempted = CLOSED, opened.attempted
        access.reason = end.reason if end is not None else CLIENT_GONE
        access.counted = subscription.counted
        self.log(access)

    @property
    def waiting(self) -> int:
        """Number of entries that are not in the log yet."""
        held = sum(entry.count > 0 for entry in self._entries.values())
        return held + len(self._ready) + len(self._sending)

    async def run(self) -> None:
        """Write what is due, until cancelled."""
        away = False
        while True:
            await self._clock.sleep(until_next_poll(self._clock, _POLL_SECONDS))
            self._take_due(self._clock.monotonic())
            written = await self._send()
            if not written and not away:
                _LOGGER.warning("uses of keys cannot be recorded now; they wait")
            away = not written

    async def flush(self) -> bool:
        """Write all entries; False if the log is away."""
        for identity, entry in list(self._entries.items()):
            self._drop(identity)
            if entry.count:
                self._ready.append(entry)
        self._due.clear()
        return await self._send()

    async def close(self) -> None:
        """Flush a last time before the log is closed; waits some seconds for the log to come
        back."""
        deadline = self._clock.monotonic() + _CLOSING_SECONDS
        while not await self.flush():
            if self._clock.monotonic() >= deadline:
                _LOGGER.error(
                    "%d records of uses are lost: the log was away at the end", self.waiting
                )
                return
            await self._clock.sleep(_POLL_SECONDS)

    def _new_entry(self, access: Access, identity: Identity) -> tuple[AccessEntry, Identity]:
        keyless = access.key is None
        if len(self._entries) >= MOST_ENTRIES or (keyless and self._keyless >= MOST_KEYLESS):
            # Keys and addresses are then among the details.
            identity = ("", access.action, access.outcome, access.reason, "", "", "", "")
            known = self._entries.get(identity)
            if known is not None:
                return known, identity
        self._keyless += keyless
        rest = self._timings.merge_ingest if access.action == INGESTED else self._timings.merge
        entry = self._entries[identity] = AccessEntry(rest)
        self._wait(identity, self._timings.delay)
        return entry, identity

    def _takes_early(self, entry: AccessEntry) -> bool:
        if len(self._ready) >= _MOST_READY:
            return False
        return entry.full or entry.early < _MOST_EARLY

    def _wait(self, identity: Identity, seconds: float) -> None:
        self._order += 1
        heappush(self._due, (self._clock.monotonic() + seconds, self._order, identity))

    def _take_due(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            identity = heappop(self._due)[2]
            entry = self._entries.get(identity)
            if entry is None:
                continue
            if not entry.count:
                self._drop(identity)
            elif len(self._ready) >= _MOST_READY:
                self._wait(identity, self._timings.merge)
            else:
                self._ready.append(entry)
                following = self._entries[identity] = entry.successor()
                following.early = 0
                if entry.rested:
                    following.rest = max(entry.rest, min(2 * entry.rest, _LONGEST_REST))
                following.rested = True
                self._wait(identity, following.rest)

    def _drop(self, identity: Identity) -> None:
        del self._entries[identity]
        self._keyless -= not identity[0]

    async def _send(self) -> bool:
        async with self._lock:
            while self._sending or self._ready:
                if not self._sending:
                    batch, self._ready = self._ready[:_BATCH], self._ready[_BATCH:]
                    self._sending = list(map(self._draft, batch))
                    self._characters -= sum(entry.size for entry in batch)
                try:
                    await self._writer.append(self._sending)
                except Unavailable:
                    return False
                except Exception:
                    if not await self._send_apart():
                        return False
                else:
                    self.written += len(self._sending)
                    self._sending = []
        return True

    async def _send_apart(self) -> bool:
        """Write one by one what failed together, and leave out what fails alone."""
        while self._sending:
            try:
                await self._writer.append(self._sending[:1])
            except Unavailable:
                return False
            except Exception:
                self.lost += 1
                _LOGGER.exception("a record of uses cannot be written, which is a bug")
            else:
                self.written += 1
            del self._sending[0]
        return True

    def _draft(self, entry: AccessEntry) -> Draft:
        event_id = next(self._ids)
        try:
            return entry.draft(event_id, self._epoch)
        except Exception:
            _LOGGER.exception("a record of uses is written without its details, which is a bug")
            return entry.without_details(event_id)


def use_of_stream(subscription: Subscription, opened: Access, now: float) -> Access:
    """What a stream was used for until now."""
    return Access(
        at=now,
        key=opened.key,
        address=opened.address,
        client=opened.client,
        request_id=opened.request_id,
        page=opened.page,
        transport=opened.transport,
        parameters=opened.parameters,
        subject=opened.subject,
        begin=opened.begin,
        end=later(opened.begin, subscription.cursor),
        events=subscription.delivered,
        seconds=max(0.0, now - opened.at),
    )


def _identity(access: Access) -> Identity:
    key, address = access.key, access.address
    return (
        "" if key is None else key.id,
        access.action,
        access.outcome,
        access.reason,
        address_subject(address) if key is None else address,
        access.attempted,
        access.route,
        access.subject,
        # Each file is traced by itself.
        "" if access.export is None else access.request_id,
    )
