"""The reading half of the embedded log: for the process that writes the file, and for others.

Small reads (the live tail) run on the caller's thread, because a hop to another
costs more than the read; larger ones run on reader threads.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw

from gateway.event import Event
from gateway.store.narrow import Bound, exact_sql, narrow_sql
from gateway.store.ports import Lines, Narrowing, Overtaken, Page
from gateway.store.sqlite import open_reader, unavailable
from gateway.store.sqlite_batch import (
    COLUMNS,
    SIZES,
    event_of,
    events_of,
    json_head,
    read_events_sql,
    read_lines_sql,
)

T = TypeVar("T")

# One read looks at no more than the rest of such a block of offsets: that bounds what it
# costs, and a selective filter over a long log still moves its cursor often.
_BLOCK = 4096
PAGE_BYTES = 256 * 1024
_MOST_BYTES = 4 << 20
_MOST_SIZES = 4096
_SMALL_READ = 64
_READERS = 4


class SqliteReader:
    """What `Log` promises of reading. Whoever inherits tells it of `_opened` and `_moved`."""

    # Whether a file takes writes is only known by writing.
    trouble = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(_READERS, "log-reader", _yield_to_live_streams)
        self._local = threading.local()
        self._connections: list[apsw.Connection] = []
        self._listeners: list[Callable[[], None]] = []
        self._sizes: dict[int, tuple[int, int, int]] = {}
        self._epoch = ""
        self._json_head = b""
        # What readers may rely on: moved on the event loop, once it is durable.
        self._head = self._floor = 0

    @property
    def epoch(self) -> str:
        return self._epoch

    @property
    def head(self) -> int:
        return self._head

    @property
    def floor(self) -> int:
        return self._floor

    def on_append(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    async def catch_up(self) -> None:
        """Nobody else appends, unless this is overridden."""

    async def read(
        self, after: int, until: int, *, limit: int, narrowing: Narrowing | None = None
    ) -> Page:
        until = min(until, self._head)
        if after >= until and after >= self._floor:
            return Page([], after)
        if until - after <= _SMALL_READ:
            try:
                return self._read_small(after, until, limit)
            except apsw.Error as error:
                raise unavailable(error, "the log cannot be read") from error
        condition, bound = narrow_sql(narrowing)
        sql = read_events_sql(condition)
        until = min(until, _block_end(after))
        (columns, bodies), rows = await self._on_reader(
            lambda: self._read_page(sql, (), after, until, bound, limit)
        )
        # Made here and not on the reader's thread, which would fight for Python's lock.
        events = events_of(columns, bodies or b"", self._json_head)
        return Page(events, events[-1].offset if len(events) == rows else until)

    def gives_lines(self, narrowing: Narrowing) -> bool:
        return exact_sql(narrowing) is not None

    async def read_lines(
        self, after: int, until: int, *, limit: int, narrowing: Narrowing
    ) -> Lines:
        until = min(until, self._head)
        if after >= until and after >= self._floor:
            return Lines(b"", 0, after)
        exact = exact_sql(narrowing)
        assert exact is not None, "only where gives_lines() says so"
        condition, bound = exact
        sql = read_lines_sql(condition)
        until = min(until, _block_end(after))
        head = self._json_head.decode()
        (count, last, text), rows = await self._on_reader(
            lambda: self._read_page(sql, (head,), after, until, bound, limit)
        )
        return Lines(text or b"", count, last if count == rows else until)

    async def find(self, event_id: str, tenant: str | None) -> list[Event]:
        condition, bound = "id = ?", [event_id]
        if tenant is not None:
            condition, bound = "id = ? AND tenant = ?", [event_id, tenant]
        sql = f"SELECT {COLUMNS} FROM event WHERE {condition} AND offset <= {self._head}"
        head = self._json_head
        return await self._on_reader(
            lambda: [event_of(row, head) for row in self._reader().execute(sql, bound)]
        )

    async def last_before(self, micros: int) -> int:
        # What is written but not yet announced is not there yet.
        return min(await self._on_reader(lambda: self._last_before(micros)), self._head)

    def _opened(self, epoch: str, head: int, floor: int) -> None:
        """The log is there; this is where it stands."""
        self._epoch, self._head, self._floor = epoch, head, floor
        self._json_head = json_head(epoch)

    def _moved(self, head: int, floor: int) -> None:
        """Up to `head` everything is durable, and up to `floor` retention has deleted."""
        self._floor = max(self._floor, floor)
        if head > self._head:
            self._head = head
            for listener in self._listeners:
                listener()

    def _close_readers(self) -> None:
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()

    # On any thread, each with a connection of its own

    def _reader(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_reader(self._path)
            self._connections.append(connection)
        return connection

    def _read_small(self, after: int, until: int, limit: int) -> Page:
        connection = self._reader()
        events: list[Event] = []
        size = 0
        # One read transaction, so that no event can vanish behind the check of the floor.
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
        self, sql: str, first: tuple[str, ...], after: int, until: int, bound: Bound, limit: int
    ) -> tuple[Any, int]:
        """The row of a page's query, and the number of events that it was allowed to have."""
        connection = self._reader()
        with connection:
            self._check_floor(connection, after)
            rows = min(limit, self._rows_of_page(connection, after, until))
            page = connection.execute(sql, (*first, after, until, *bound, rows)).fetchone()
        return page, rows

    def _rows_of_page(self, connection: apsw.Connection, after: int, until: int) -> int:
        """As many as make a page on average, and never far more bytes than that."""
        block = after // _BLOCK
        sizes = self._sizes.get(block)
        if sizes is None:
            sizes = one_row(connection, SIZES, after, until)
            if until == _block_end(after) and after % _BLOCK == 0:
                # A whole block, which will never be another.
                if len(self._sizes) >= _MOST_SIZES:
                    self._sizes.clear()
                self._sizes[block] = sizes
        count, total, largest = sizes
        if not count:
            return 1
        return max(1, min(PAGE_BYTES * count // total, _MOST_BYTES // largest))

    def _check_floor(self, connection: apsw.Connection, after: int) -> None:
        if after < one_row(connection, "SELECT floor FROM log")[0]:
            raise Overtaken

    def _last_before(self, micros: int) -> int:
        """Bisect: `recorded_at` never decreases with the offset, and offsets have no gaps."""
        connection = self._reader()
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

    async def _on_reader(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except apsw.Error as error:
            raise unavailable(error, "the log cannot be read") from error


def one_row(connection: apsw.Connection, sql: str, *bound: int) -> Any:
    """The one row of a query that always has one."""
    return connection.execute(sql, bound).fetchone()


def _block_end(after: int) -> int:
    return (after // _BLOCK + 1) * _BLOCK


def _yield_to_live_streams() -> None:
    """Where the system has priorities per thread, catching up never delays what is live."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
