"""The log in PostgreSQL, shared by any number of gateways.

Events are copied into a table without a lock; then the sequencer gives them their offsets (see
`gateway.adapters.postgres.sequencer`). The commit of that step makes an append durable: it flushes
the write-ahead log with the events in it, so their own commit need not wait for the disk.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from itertools import chain
from typing import Any

import asyncpg

from gateway.adapters.postgres.counting import count_events, last_before_each
from gateway.adapters.postgres.database import SCHEMA, Database, migrate, storable
from gateway.adapters.postgres.places import (
    FIND,
    NOTHING,
    PLACES,
    asked_places,
    found_places,
    placed_whole,
)
from gateway.adapters.postgres.rows import (
    ARRIVING,
    EVENT_COLUMNS,
    JSON_COLUMNS,
    NEEDLES,
    PART,
    bound_values,
    events_of,
    in_parts,
    lines_of,
    one_by_one,
    page_sql,
    rows_of,
)
from gateway.adapters.postgres.sequencer import Sequencer, Step
from gateway.adapters.sql_conditions import exact_sql, narrow_sql
from gateway.clock import Clock
from gateway.cursor import JSON_PREFIX, new_epoch
from gateway.errors import GatewayError, Unavailable
from gateway.event import Draft, Event
from gateway.histogram import Histogram
from gateway.log.counts import Counts, Grouping
from gateway.log.identity import KeyedValues, near
from gateway.log.ports import FOUND_EVENTS, Appended, Page, RawPage, RetentionExceeded, ScanHint
from gateway.tasks import PLAIN, Tasks, stop

# Offsets that one narrowed read covers at most, so that a selective filter over a long log still
# moves its cursor several times a second.
_SCAN = 50_000
_PAGE_BYTES = 768 * 1024
_TRIM_EVENTS = 5_000
_TEND_SECONDS = 10.0
# A partition is full when it holds this part of what retention keeps, but never a tiny one.
_PARTS = 8
_LEAST_AGE = 60_000_000
_LEAST_BYTES = 16 << 20
_READERS = 6
_WRITERS = 4
_DROP_AGAIN_SECONDS = 60.0
_LOGGER = logging.getLogger(__name__)


async def begin_new_life(url: str, schema: str = SCHEMA) -> str:
    """Give the log a new epoch, and return it: for a database set back to an earlier state, so that
    later cursors do not point to other events. Running gateways have to be restarted."""
    await migrate(url, schema)
    database = Database(url, 1, schema)
    try:
        async with database.connection("the log cannot be renamed") as connection:
            await connection.execute(_CREATE, new_epoch())
            epoch: str = await connection.fetchval(_LIFE, new_epoch(), True)
    finally:
        await database.close()
    return epoch


class PostgresLog(Sequencer):
    """`Log` in one PostgreSQL schema. Use `await PostgresLog.open(...)`."""

    polls = True

    def __init__(self, url: str, clock: Clock, schema: str, secret: bytes) -> None:
        super().__init__(Database(url, _WRITERS, schema, self._confirm))
        self._clock = clock
        self.values = KeyedValues(secret)
        self.read_seconds = Histogram()
        self._reads = Database(url, _READERS, schema, seconds=self.read_seconds)
        # Without sync: the step that follows makes these events durable.
        self._arrivals = Database(url, _WRITERS, schema, synchronous_commit="off")
        self._json_head = b""
        # One append at a time, so that offsets follow the order of the calls.
        self._arriving = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._next_drop = 0.0
        # Offset of the event acknowledged last, and its batch.
        self._acknowledged: tuple[int, int] | None = None

    @classmethod
    async def open(
        cls, url: str, clock: Clock, schema: str = SCHEMA, tasks: Tasks = PLAIN, *,
        secret: bytes = b"",
    ) -> PostgresLog:  # fmt: skip
        """Open or create the log, and follow it in the background until closed. `secret` is the
        secret of the log, the same for all its gateways.

        Raises `Unavailable` if the database cannot be reached, `GatewayError` if it cannot be used.
        """
        await migrate(url, schema)
        log = cls(url, clock, schema, secret)
        try:
            await log._start(tasks)
        except BaseException:
            await log.close()
            raise
        return log

    async def append(self, batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        self._check()
        drafts = list(chain.from_iterable(batches))
        if not drafts:
            return [NOTHING for _ in batches]
        batch = secrets.randbits(62) + 1
        now, head = self._micros(), self.head
        with self._appending():
            rows = await self._rows(drafts, batch, now)
            async with self._arriving:
                await self._arrive(rows)
            try:
                step = await self._placed(batch, len(drafts))
                if step is None:
                    return await self._places(batches, batch, head)
            except Unavailable as error:
                raise _unknown(error) from error
        self._acknowledged = (step.first, batch)
        return placed_whole(batches, step.first, step.conflicts)

    async def read(
        self, after: int, until: int, *, limit: int, hint: ScanHint | None = None
    ) -> Page:
        self._check()
        until = min(until, self.head)
        if after >= until and after >= self.floor:
            return Page([], after)
        condition, bound = narrow_sql(hint, NEEDLES)
        rows, reached = await self._page(EVENT_COLUMNS, after, until, limit, condition, bound)
        return Page(events_of(rows, self._json_head), reached)

    async def read_back(
        self, after: int, until: int, *, limit: int, hint: ScanHint | None = None
    ) -> Page:
        self._check()
        until = min(until, self.head)
        if after >= until >= self.floor:
            return Page([], until)
        condition, bound = narrow_sql(hint, NEEDLES)
        least = max(after, until - (_SCAN if condition else limit))
        sql = page_sql(EVENT_COLUMNS, condition, newest_first=True)
        rows, floor = await self._rows_and_floor(sql, least, until, limit, bound)
        if until < floor:
            raise RetentionExceeded
        reached = rows[-1]["offset"] - 1 if _full(rows, limit) else least
        return Page(events_of(rows, self._json_head), after if reached <= floor else reached)

    def can_read_raw(self, hint: ScanHint) -> bool:
        return exact_sql(hint) is not None

    async def read_raw(self, after: int, until: int, *, limit: int, hint: ScanHint) -> RawPage:
        self._check()
        until = min(until, self.head)
        if after >= until and after >= self.floor:
            return RawPage(b"", 0, after)
        exact = exact_sql(hint)
        assert exact is not None, "only where can_read_raw() says so"
        condition, bound = exact
        rows, reached = await self._page(JSON_COLUMNS, after, until, limit, condition, bound)
        return RawPage.of(lines_of(rows, self._json_head), reached)

    async def count(self, after: int, until: int, *, hint: ScanHint, grouping: Grouping) -> Counts:
        self._check()
        exact = exact_sql(hint)
        assert exact is not None, "only where can_read_raw() says so"
        return await count_events(self._reads, (after, min(until, self.head)), grouping, *exact)

    async def find(self, event_id: str, tenant: str | None, after: int = 0) -> list[Event]:
        self._check()
        async with self._reads.connection("the log cannot be read") as connection:
            rows = await connection.fetch(
                FIND, near(event_id), *self.values.range_of_id(event_id), storable(event_id),
                None if tenant is None else storable(tenant), after, self.head, FOUND_EVENTS,
            )  # fmt: skip
        return events_of(rows, self._json_head)

    async def last_before(self, micros: int) -> int:
        self._check()
        async with self._reads.connection("the log cannot be read") as connection:
            offset: int = await connection.fetchval("SELECT last_before($1)", micros)
        # Events of other gateways count only once this process has seen them.
        return min(offset, self.head)

    async def last_before_each(self, micros: Sequence[int]) -> list[int]:
        self._check()
        return [min(offset, self.head) for offset in await last_before_each(self._reads, micros)]

    async def trim(self, before_micros: int | None, max_bytes: int | None) -> int:
        self._check()
        now = self._micros()
        most_age = most_bytes = None
        if before_micros is not None:
            most_age = max((now - before_micros) // _PARTS, _LEAST_AGE)
        if max_bytes is not None:
            most_bytes = max(max_bytes // _PARTS, _LEAST_BYTES)
        async with self._writes.connection("old events were not deleted") as connection:
            deleted, floor = await connection.fetchrow(
                "SELECT * FROM trim_log($1, $2, $3)", before_micros, max_bytes, _TRIM_EVENTS
            )
            await connection.execute(_TEND, now, most_age, most_bytes)
            await self._drop_passed(connection, floor)
        self.floor = max(self.floor, floor)
        return int(deleted)

    async def close(self) -> None:
        await stop(self._tasks)
        for database in (self._arrivals, self._reads, self._writes):
            await database.close()

    async def _start(self, tasks: Tasks) -> None:
        async with self._writes.connection("the log cannot be opened") as connection:
            await connection.execute(_CREATE, new_epoch())
            self.epoch = await connection.fetchval(_LIFE, new_epoch(), False)
            if await connection.fetchval("SHOW fsync") == "off":
                _LOGGER.warning("the database runs with fsync=off: a power failure loses events")
        self._json_head = JSON_PREFIX + self.epoch.encode() + b"-"
        await self._tend()
        await self._step(patient=True)
        self._tasks = [
            tasks.keep("sequencer", self._watch),
            tasks.keep("partitions", self._tend_often),
        ]

    async def _confirm(self, connection: asyncpg.Connection) -> None:
        """Check that a new connection leads to a server with the last events of this log."""
        if self._tasks:
            known = self._acknowledged or (None, None)
            await connection.fetchval(_CONFIRM, new_epoch(), self.head, *known)

    async def _rows(self, drafts: Sequence[Draft], batch: int, now: int) -> list[tuple[Any, ...]]:
        if len(drafts) <= PART:
            return rows_of(drafts, self.values, batch, now)
        rows = []
        async for part in in_parts(drafts):
            rows += rows_of(part, self.values, batch, now)
        return rows

    async def _arrive(self, rows: Sequence[tuple[Any, ...]]) -> None:
        try:
            await self._copy(rows)
        except Unavailable as error:
            if isinstance(error.__cause__, asyncpg.CheckViolationError):
                # No partition exists yet for these rows.
                await self._tend()
                await self._copy(rows)
            else:
                raise

    async def _copy(self, rows: Sequence[tuple[Any, ...]]) -> None:
        begun = False
        try:
            async with self._arrivals.connection("the events were not stored") as connection:
                begun = True
                records = rows if len(rows) <= PART else one_by_one(rows)
                await connection.copy_records_to_table("event", records=records, columns=ARRIVING)
        except Unavailable as error:
            if begun and not _took_nothing(error.__cause__):
                raise _unknown(error) from error
            raise

    async def _placed(self, batch: int, count: int) -> Step | None:
        """The step that placed the whole batch; None if others placed some, or not all is new."""
        while True:
            step = await self._step(patient=True, mine=batch)
            if step.accepted == count:
                return step
            if step.accepted or not step.more:
                while step.more:
                    step = await self._step(patient=True)
                return None

    async def _places(
        self, batches: Sequence[Sequence[Draft]], batch: int, head: int
    ) -> list[Appended]:
        """Results of batches of which some ids were known, or another gateway's step placed some.
        `head` is the head of the log before they came."""
        drafts = list(chain.from_iterable(batches))
        rows: list[asyncpg.Record] = []
        async with self._writes.connection("the events cannot be found") as connection:
            before = 0
            async for part in in_parts(drafts):
                rows += await connection.fetch(PLACES, *asked_places(part, self.values), before)
                before += len(part)
            floor = await connection.fetchval("SELECT floor FROM newest_step()")
        for row in rows:
            if self._acknowledged is None or row["offset"] > self._acknowledged[0]:
                self._acknowledged = (row["offset"], row["batch"])
        if floor <= head and len(rows) < len(drafts):
            # Too recent for retention: the server lost them in a crash, and was soon back.
            raise Unavailable("the events are not there", retry_after=1)
        return found_places(batches, batch, rows, floor=floor, head=self.head)

    async def _page(
        self, columns: str, after: int, until: int, limit: int, condition: str,
        bound: Sequence[str | int],
    ) -> tuple[list[asyncpg.Record], int]:  # fmt: skip
        """Rows, and the offset reached. Raises `RetentionExceeded`."""
        # Offsets are dense: without a condition, `limit` rows lie in `limit` offsets.
        until = min(until, after + (_SCAN if condition else limit))
        sql = page_sql(columns, condition)
        rows, floor = await self._rows_and_floor(sql, after, until, limit, bound)
        if after < floor:
            raise RetentionExceeded
        return rows, rows[-1]["offset"] if _full(rows, limit) else until

    async def _rows_and_floor(
        self, sql: str, after: int, until: int, limit: int, bound: Sequence[str | int]
    ) -> tuple[list[asyncpg.Record], int]:
        """Rows of the query of a page, and the floor."""
        async with self._reads.connection("the log cannot be read") as connection:
            rows = await connection.fetch(
                sql, after, until, limit, _PAGE_BYTES, *bound_values(bound)
            )
            floor: int = (
                rows[0]["floor"]
                if rows
                else await connection.fetchval("SELECT floor FROM newest_step()")
            )
        self.floor = max(self.floor, floor)
        return rows, floor

    def _micros(self) -> int:
        return int(self._clock.now() * 1_000_000)

    async def _drop_passed(self, connection: asyncpg.Connection, floor: int) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._next_drop:
            return
        for partition in await connection.fetch(_PASSED, floor):
            if not await connection.fetchval("SELECT drop_partition($1)", partition["number"]):
                # Each attempt may block all others for a moment.
                self._next_drop = loop.time() + _DROP_AGAIN_SECONDS

    async def _tend(self) -> None:
        async with self._writes.connection("the log cannot be extended") as connection:
            await connection.execute(_TEND, self._micros(), None, None)

    async def _tend_often(self) -> None:
        while True:
            await asyncio.sleep(_TEND_SECONDS)
            try:
                await self._tend()
            except GatewayError as error:
                _LOGGER.warning("%s; trying again (%s)", error.detail, error.__cause__)


_CREATE = "INSERT INTO log VALUES (true, $1, 'event'::regclass) ON CONFLICT DO NOTHING"
_LIFE = "SELECT begin_life($1, $2)"
_CONFIRM = "SELECT confirm_life($1, $2, $3, $4)"
_PASSED = "SELECT number FROM partition WHERE left_head <= $1 ORDER BY number"
_TEND = "SELECT tend_partitions($1, $2, $3)"


def _full(rows: Sequence[asyncpg.Record], limit: int) -> bool:
    """Whether a page was ended by its bounds."""
    return bool(rows) and (len(rows) == limit or rows[-1]["upto"] >= _PAGE_BYTES)


def _took_nothing(cause: BaseException | None) -> bool:
    """Whether the server itself reported that the statement failed, so that nothing was stored."""
    return isinstance(cause, asyncpg.PostgresError) and not isinstance(
        cause, (asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError,
                asyncpg.CrashShutdownError, asyncpg.IdleInTransactionSessionTimeoutError)
    )  # fmt: skip


def _unknown(error: Unavailable) -> Unavailable:
    return Unavailable(
        f"{error.detail}; it is not known whether the events were stored: send them again with "
        "the same ids, then what is there counts as duplicates",
        code="outcome_unknown",
        retry_after=error.retry_after,
    )
