"""Meter of usage: counts in memory, and hands them over to a ledger twice a second.

    count() -> collected -> waiting, by (key, minute) -> one batch at a time -> ledger

A batch that failed is offered again, unchanged and under its number, until it is known to be
stored; later counts wait behind it. So a ledger that remembers the last number of each writer
counts nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec

from gateway.access.usage.windows import MINUTE, Counts, Row, Tier, fold, plan, stretch
from gateway.clock import Clock, until_next_poll
from gateway.errors import Unavailable
from gateway.tasks import PLAIN, Tasks, stop

FLUSH_SECONDS = 0.5
_BATCH_KEYS = 500
# Keys of one call of `Ledger.totals`.
MOST_TOTALS = 250
_MOST_WAITING = 200_000
_LOGGER = logging.getLogger(__name__)


class UsageBatch(msgspec.Struct, frozen=True):
    """Counts to add: for each key a minute (since 1970) and its counts."""

    writer: str
    number: int
    entries: dict[str, tuple[int, Counts]]


class Ledger(Protocol):
    """Store of usage.

    Ordering: batches of one writer come one after the other, numbered upwards. Atomicity: each
    key's entry is added once, even when a batch is offered again because the answer was lost.
    Durability: as the adapter says.
    """

    async def add(self, batch: UsageBatch) -> None:
        """Add the counts. Raises `Unavailable` unless all of them are known to be stored."""

    async def read(self, key_id: str, tier: Tier, first: int, last: int) -> Mapping[int, Counts]:
        """Counts of a key by index, `first` to `last`. Raises `Unavailable`."""

    async def totals(
        self, key_ids: Sequence[str], tier: Tier, first: int, last: int
    ) -> Mapping[str, Counts]:
        """Sums of the counts from `first` to `last` of each of at most `MOST_TOTALS` keys; keys
        without counts are left out. Raises `Unavailable`."""


class Meter:
    """Counts per key: requests, streams, events, bytes, denials; by minute, hour and day.

    Ordering: a count belongs to the minute (UTC) in which it was collected, up to half a second
    after it was made. Atomicity: what was collected is added once, also when the answer to it was
    lost. Durability: that of the ledger beneath; a crash of this process loses half a second of
    counts. While the ledger is away, counts wait in bounded memory.
    """

    def __init__(self, ledger: Ledger, clock: Clock, most_waiting: int = _MOST_WAITING) -> None:
        # Entries (a key's minute) that were dropped because too many waited.
        self.lost = 0
        self._ledger = ledger
        self._clock = clock
        self._most_waiting = most_waiting
        self._collected: dict[str, list[int]] = {}
        self._waiting: dict[tuple[str, int], Counts] = {}
        self._batch: UsageBatch | None = None
        self._writer = secrets.token_hex(8)
        self._number = 0
        self._handing_over = asyncio.Lock()

    def count(
        self,
        key_id: str,
        *,
        requests: int = 0,
        streams: int = 0,
        events: int = 0,
        size: int = 0,
        denials: int = 0,
    ) -> None:
        """Add to a key's counts; costs less than a microsecond and never waits."""
        counts = self._collected.get(key_id)
        if counts is None:
            self._collected[key_id] = [requests, streams, events, size, denials]
            return
        counts[0] += requests
        counts[1] += streams
        counts[2] += events
        counts[3] += size
        counts[4] += denials

    async def flush(self) -> bool:
        """Hand over the counts so far; False if the ledger is away."""
        self._collect()
        async with self._handing_over:
            while self._batch is not None or self._waiting:
                if self._batch is None:
                    self._batch = self._next_batch()
                try:
                    await self._ledger.add(self._batch)
                except Unavailable:
                    return False
                self._batch = None
        return True

    async def rows(self, key_id: str, window: int, step: int) -> list[Row]:
        """Usage of a key in the last `window` seconds, one row per `step` seconds, oldest first.

        Raises `InvalidRequest` for what is not kept, `Unavailable` when the ledger is away.
        """
        chosen = plan(window, step, self._clock.now())
        # So that at least the counts of this process are complete.
        await self.flush()
        found = await self._ledger.read(key_id, chosen.tier, chosen.first, chosen.last)
        return fold(chosen, found)

    async def totals(
        self, key_ids: Sequence[str], window: int, ago: int = 0
    ) -> Mapping[str, Counts]:
        """Sums of the counts of keys in the `window` seconds that end `ago` seconds before now, in
        whole minutes, hours or days; keys without counts are left out.

        Raises `InvalidRequest` for what is not kept, `Unavailable` when the ledger is away.
        """
        tier, first, last = stretch(window, ago, self._clock.now())
        await self.flush()
        found: dict[str, Counts] = {}
        for start in range(0, len(key_ids), MOST_TOTALS):
            part = key_ids[start : start + MOST_TOTALS]
            found.update(await self._ledger.totals(part, tier, first, last))
        return found

    @asynccontextmanager
    async def running(self, tasks: Tasks = PLAIN) -> AsyncIterator[None]:
        """Flush in the background, and a last time at the end."""
        task = tasks.keep("usage", self._run)
        try:
            yield
        finally:
            await stop([task])
            if not await self.flush():
                _LOGGER.warning("usage of the last moments is lost: its ledger is away")

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(until_next_poll(self._clock, FLUSH_SECONDS))
            await self.flush()

    def _collect(self) -> None:
        """Assign the counts to their minute, so that an outage does not blur them."""
        minute = MINUTE.index(self._clock.now())
        collected, self._collected = self._collected, {}
        for key_id, counts in collected.items():
            before = self._waiting.get((key_id, minute))
            if before is not None:
                self._waiting[key_id, minute] = tuple(map(sum, zip(before, counts, strict=True)))
            elif len(self._waiting) < self._most_waiting:
                self._waiting[key_id, minute] = tuple(counts)
            else:
                if not self.lost:
                    _LOGGER.error("usage is being lost: its ledger has been away for too long")
                self.lost += 1

    def _next_batch(self) -> UsageBatch:
        """Next batch of keys, oldest first. Each key is in it once, as its entries go one by
        one."""
        entries: dict[str, tuple[int, Counts]] = {}
        for (key_id, minute), counts in self._waiting.items():
            if key_id not in entries:
                entries[key_id] = (minute, counts)
                if len(entries) >= _BATCH_KEYS:
                    break
        for key_id, (minute, _) in entries.items():
            del self._waiting[key_id, minute]
        self._number += 1
        return UsageBatch(self._writer, self._number, entries)
