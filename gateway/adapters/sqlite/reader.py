"""Reads of an SQLite log that any process may write: bounded pages of durable events.

Small reads, for live streams, have a thread of their own; others have a lower priority.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import apsw
import orjson

from gateway.adapters.files.same_file import SameFile
from gateway.adapters.sql_conditions import Bound, exact_sql, narrow_sql
from gateway.adapters.sqlite.batch import (
    COLUMNS,
    FIND,
    FIND_ALSO_OLD,
    FIND_FIRST,
    LAST_BEFORE_EACH,
    NEEDLES,
    SIZES,
    count_sql,
    event_of,
    events_of,
    json_head,
    read_back_sql,
    read_events_sql,
    read_raw_sql,
)
from gateway.adapters.sqlite.database import open_reader
from gateway.adapters.sqlite.dedup import HAS_TEXT_INDEX
from gateway.adapters.sqlite.thread import SqliteThreads
from gateway.errors import Unavailable
from gateway.event import Event
from gateway.histogram import Histogram
from gateway.log.counts import Counts, Grouping, counts_of_rows
from gateway.log.identity import KeyedValues, near
from gateway.log.ports import FOUND_EVENTS, Page, RawPage, RetentionExceeded, ScanHint

T = TypeVar("T")

# One read ends at the next multiple of this many offsets: that bounds its cost, and lets a
# selective filter over a long log move its cursor often.
_BLOCK = 4096
PAGE_BYTES = 256 * 1024
_MOST_BYTES = 4 << 20
_MOST_SIZES = 4096
_SMALL_READ = 64
# Offsets that a page read backwards covers at most, for each row that it may have: the sizes of
# the newest block are not kept, and a page of its last events must not look at all of them.
_OFFSETS_PER_ROW = 4
UNREADABLE = "the log cannot be read"
_READERS = 4
# Large reads wait longer, since they wait for other large reads.
_READER_PATIENCE_SECONDS = 60.0


class SqliteReader:
    """Reading half of `Log`. Subclasses call `_opened` and `_moved`."""

    polls = False
    renamed = 0

    def __init__(self, path: Path, secret: bytes) -> None:
        self._path = path
        self._values = KeyedValues(secret)
        self._file = SameFile(path)
        self.read_seconds = Histogram()
        self._small = SqliteThreads(
            "log-small-reader",
            self._open_reader,
            file=self._file,
            only_reads=True,
            seconds=self.read_seconds,
        )
        self._large = SqliteThreads(
            "log-reader",
            self._open_large_reader,
            _READERS,
            patience=_READER_PATIENCE_SECONDS,
            file=self._file,
            only_reads=True,
            seconds=self.read_seconds,
        )
        self._listeners: list[Callable[[], None]] = []
        self._sizes: dict[int, tuple[int, int, int]] = {}
        # The index is dropped once, when all old events have keyed values.
        self._has_text_index = True
        self.epoch = ""
        self._json_head = b""
        # Durable state for readers: changed on the event loop only.
        self.head = self.floor = 0

    @property
    def degraded_reason(self) -> Unavailable | None:
        """Error of a missing file, or None; only a write shows whether the file is writable."""
        return self._file.degraded_reason

    def poll_now(self) -> None:
        pass

    def on_append(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    async def catch_up(self) -> None:
        """Return at once: this process is the only writer, unless a subclass overrides this."""

    async def read(
        self, after: int, until: int, *, limit: int, hint: ScanHint | None = None
    ) -> Page:
        until = min(until, self.head)
        if after >= until and after >= self.floor:
            return Page([], after)
        if until - after <= _SMALL_READ:
            return await self._small.use(
                lambda connection: self._read_small(connection, after, until, limit), UNREADABLE
            )
        condition, bound = narrow_sql(hint, NEEDLES)
        sql = read_events_sql(condition)
        until = min(until, _block_end(after))
        (columns, bodies), rows = await self._large.use(
            lambda connection: self._read_page(connection, sql, (), after, until, bound, limit),
            UNREADABLE,
        )
        # Decoded here, since the reader's thread would compete for Python's lock.
        events = events_of(columns, bodies or b"", self._json_head)
        return Page(events, events[-1].offset if len(events) == rows else until)

    async def read_back(
        self, after: int, until: int, *, limit: int, hint: ScanHint | None = None
    ) -> Page:
        until = min(until, self.head)
        if after >= until >= self.floor:
            return Page([], until)
        condition, bound = narrow_sql(hint, NEEDLES)
        sql = read_back_sql(condition)
        least = max(after, _block_begin(until), until - _OFFSETS_PER_ROW * limit)
        (columns, bodies), rows, floor = await self._large.use(
            lambda connection: self._read_page_back(connection, sql, least, until, bound, limit),
            UNREADABLE,
        )
        events = events_of(columns, bodies or b"", self._json_head)
        reached = events[-1].offset - 1 if len(events) == rows else least
        return Page(events, after if reached <= floor else reached)

    def can_read_raw(self, hint: ScanHint) -> bool:
        return exact_sql(hint) is not None

    async def read_raw(self, after: int, until: int, *, limit: int, hint: ScanHint) -> RawPage:
        until = min(until, self.head)
        if after >= until and after >= self.floor:
            return RawPage(b"", 0, after)
        exact = exact_sql(hint)
        assert exact is not None, "only where can_read_raw() says so"
        condition, bound = exact
        sql = read_raw_sql(condition)
        until = min(until, _block_end(after))
        head = self._json_head.decode()
        (count, last, text), rows = await self._large.use(
            lambda connection: self._read_page(
                connection, sql, (head,), after, until, bound, limit
            ),
            UNREADABLE,
        )
        return RawPage(text or b"", count, last if count == rows else until)

    async def count(self, after: int, until: int, *, hint: ScanHint, grouping: Grouping) -> Counts:
        exact = exact_sql(hint)
        assert exact is not None, "only where can_read_raw() says so"
        condition, bound = exact
        sql = count_sql(grouping.members, condition)
        values = (grouping.micros, after, min(until, self.head), *bound)
        rows = await self._large.use(
            lambda connection: one_row(connection, sql, *values)[0], UNREADABLE
        )
        return counts_of_rows(orjson.loads(rows), grouping)

    async def find(self, event_id: str, tenant: str | None, after: int = 0) -> list[Event]:
        bound = (
            near(event_id), *self._values.range_of_id(event_id), event_id, tenant, after,
            self.head, FOUND_EVENTS,
        )  # fmt: skip
        rows = await self._large.use(lambda connection: self._find(connection, bound), UNREADABLE)
        return [event_of(row, self._json_head) for row in rows]

    async def last_before(self, micros: int) -> int:
        # Only announced events count.
        offset = await self._large.use(
            lambda connection: _last_before(connection, micros), UNREADABLE
        )
        return min(offset, self.head)

    async def last_before_each(self, micros: Sequence[int]) -> list[int]:
        bound = 1 << self.head.bit_length(), orjson.dumps(micros).decode()
        offsets = await self._large.use(
            lambda connection: one_row(connection, LAST_BEFORE_EACH, *bound)[0],
            UNREADABLE,
        )
        return [min(offset, self.head) for offset in orjson.loads(offsets)]

    def _opened(self, epoch: str, head: int, floor: int) -> None:
        """Set the state of the newly opened log."""
        self.epoch, self.head, self.floor = epoch, head, floor
        self._json_head = json_head(epoch)

    def _moved(self, head: int, floor: int) -> None:
        """Advance: events up to `head` are durable, those up to `floor` are deleted."""
        self.floor = max(self.floor, floor)
        if head > self.head:
            self.head = head
            for listener in self._listeners:
                listener()

    def _close_readers(self) -> None:
        self._small.close()
        self._large.close()

    # Methods on any thread, each with a connection of its own

    def _open_reader(self) -> apsw.Connection:
        return open_reader(self._path)

    def _open_large_reader(self) -> apsw.Connection:
        _yield_to_live_streams()
        return self._open_reader()

    def _read_small(self, connection: apsw.Connection, after: int, until: int, limit: int) -> Page:
        events: list[Event] = []
        size = 0
        # One read transaction, so that retention cannot delete events after the check of the floor.
        with connection:
            self._check_floor(connection, after)
            for row in connection.execute(
                f"SELECT {COLUMNS} FROM event WHERE offset > ? AND offset <= ? "
                "ORDER BY offset LIMIT ?",
                (after, until, limit),
            ):
                events.append(event_of(row, self._json_head))
                size += len(events[-1].json)
                if size >= PAGE_BYTES:
                    return Page(events, events[-1].offset)
        return Page(events, events[-1].offset if len(events) == limit else until)

    def _read_page(
        self,
        connection: apsw.Connection,
        sql: str,
        first: tuple[str, ...],
        after: int,
        until: int,
        bound: Bound,
        limit: int,
    ) -> tuple[Any, int]:
        """Row of a page's query, and the most events that it may have."""
        with connection:
            self._check_floor(connection, after)
            rows = min(limit, self._rows_of_page(connection, after, until))
            page = connection.execute(sql, (*first, after, until, *bound, rows)).fetchone()
        return page, rows

    def _read_page_back(
        self,
        connection: apsw.Connection,
        sql: str,
        after: int,
        until: int,
        bound: Bound,
        limit: int,
    ) -> tuple[Any, int, int]:
        """Row of a query of a page that is read backwards, the most events that it may have, and
        the floor."""
        with connection:
            floor = _floor(connection)
            if until < floor:
                raise RetentionExceeded
            rows = min(limit, self._rows_of_page(connection, after, until))
            page = connection.execute(sql, (after, until, *bound, rows)).fetchone()
        return page, rows, floor

    def _rows_of_page(self, connection: apsw.Connection, after: int, until: int) -> int:
        """Number of rows that make a page on average, bounded in bytes."""
        block = after // _BLOCK
        sizes = self._sizes.get(block)
        if sizes is None:
            sizes = one_row(connection, SIZES, after, until)
            if until == _block_end(after) and after % _BLOCK == 0:
                # The sizes of a whole block never change.
                if len(self._sizes) >= _MOST_SIZES:
                    self._sizes.clear()
                self._sizes[block] = sizes
        count, total, largest = sizes
        if not count:
            return 1
        return max(1, min(PAGE_BYTES * count // total, _MOST_BYTES // largest))

    def _find(
        self, connection: apsw.Connection, bound: tuple[int | bytes | str | None, ...]
    ) -> list[Any]:
        if not self._has_text_index:
            rows = list(islice(connection.execute(FIND, bound[:-1]), FOUND_EVENTS + 1))
            if len(rows) <= FOUND_EVENTS:
                return sorted(rows)
            return connection.execute(FIND_FIRST, bound).fetchall()
        with connection:
            has_index = bool(connection.execute(HAS_TEXT_INDEX).fetchone())
            rows = connection.execute(FIND_ALSO_OLD if has_index else FIND_FIRST, bound).fetchall()
        self._has_text_index = has_index
        return rows

    def _check_floor(self, connection: apsw.Connection, after: int) -> None:
        if after < _floor(connection):
            raise RetentionExceeded


def one_row(connection: apsw.Connection, sql: str, *bound: str | int) -> Any:
    """The row of a query that always has one."""
    return connection.execute(sql, bound).fetchone()


def _floor(connection: apsw.Connection) -> int:
    return int(one_row(connection, "SELECT floor FROM log")[0])


def _last_before(connection: apsw.Connection, micros: int) -> int:
    """Bisect: `recorded_at` never decreases with the offset, and offsets have no gaps."""
    with connection:
        low, high = one_row(connection, "SELECT floor, head FROM log")
        while low < high:
            middle = (low + high + 1) // 2
            sql = "SELECT recorded_at FROM event WHERE offset = ?"
            recorded_at = one_row(connection, sql, middle)[0]
            if recorded_at < micros:
                low = middle
            else:
                high = middle - 1
    return int(low)


def _block_end(after: int) -> int:
    return (after // _BLOCK + 1) * _BLOCK


def _block_begin(until: int) -> int:
    """End of the block before the one that `until` is in."""
    return (until - 1) // _BLOCK * _BLOCK


def _yield_to_live_streams() -> None:
    """Lower the thread's priority where the system allows it, so that live reads come first."""
    if sys.platform == "linux":
        # Refused by some sandboxes, and if the process already has a lower priority.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
