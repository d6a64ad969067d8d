"""The embedded log: SQLite in WAL mode, one writer thread, readers beside it.

`append` runs one transaction on the writer thread; callers group requests into
one call, so that one sync to disk serves them all. Small reads (the live tail)
run on the caller's thread, because a hop to another costs more than the read;
larger ones run on reader threads.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw

from gateway.clock import Clock
from gateway.cursor import new_epoch
from gateway.event import Draft, Event
from gateway.store.folder import WriterLock
from gateway.store.narrow import exact_sql, narrow_sql
from gateway.store.ports import Appended, Lines, Narrowing, Overtaken, Page
from gateway.store.sqlite import open_reader, open_writer, unavailable
from gateway.store.sqlite_batch import (
    COLUMNS,
    Group,
    event_of,
    events_of,
    json_head,
    read_events_sql,
    read_lines_sql,
)

T = TypeVar("T")

# One narrowed read looks at no more offsets than this, so that a selective
# filter over a long log still moves its cursor several times a second.
_SCAN = 200_000
_PAGE_BYTES = 256 * 1024
_SMALL_READ = 64
_TRIM_ROWS = 5_000
_READERS = 4


class SqliteLog:
    """`Log` in one SQLite file. Use `await SqliteLog.open(...)`."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = WriterLock(path)
        self._writer = ThreadPoolExecutor(1, "log-writer")
        self._readers = ThreadPoolExecutor(_READERS, "log-reader", _yield_to_live_streams)
        self._local = threading.local()
        self._opened: list[apsw.Connection] = []
        self._listeners: list[Callable[[], None]] = []
        self._epoch = ""
        self._json_head = b""
        # What readers may rely on: moved on the event loop, once it is durable.
        self._head = self._floor = 0
        # What the file holds: known to the writer thread alone, which never waits for the loop.
        self._written = self._trimmed = self._bytes = self._recorded_at = 0
        self._broken = False

    @classmethod
    async def open(cls, path: Path, clock: Clock) -> SqliteLog:
        """Open or create the log, and take the right to write it.

        Raises `FolderLocked` when another process has it.
        """
        log = cls(path, clock)
        try:
            await log._on_writer(log._open_writer)
            log._head, log._floor = log._written, log._trimmed
        except BaseException:
            log._writer.shutdown()
            log._readers.shutdown()
            log._lock.release()
            raise
        return log

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

    async def append(self, batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        results, head = await self._on_writer(lambda: self._append(batches))
        if head > self._head:
            self._head = head
            for listener in self._listeners:
                listener()
        return results

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
        until = self._scan_end(after, until, condition)
        [columns, bodies] = await self._on_reader(
            lambda: self._read_page(sql, (after, until, *bound, limit, _PAGE_BYTES), after)
        )
        # Made here and not on the reader's thread, which would fight for Python's lock.
        events = events_of(columns, bodies or b"", self._json_head)
        full = len(events) == limit or len(bodies or b"") >= _PAGE_BYTES
        return Page(events, events[-1].offset if full else until)

    def gives_lines(self, narrowing: Narrowing) -> bool:
        return exact_sql(narrowing) is not None

    async def read_lines(
        self, after: int, until: int, *, limit: int, narrowing: Narrowing
    ) -> Lines:
        until = min(until, self._head)
        if after >= until and after >= self._floor:
            return Lines([], after)
        exact = exact_sql(narrowing)
        assert exact is not None, "only where gives_lines() says so"
        condition, bound = exact
        sql = read_lines_sql(condition)
        until = self._scan_end(after, until, condition)
        head = self._json_head.decode()
        [text] = await self._on_reader(
            lambda: self._read_page(sql, (head, after, until, *bound, limit, _PAGE_BYTES), after)
        )
        lines: list[bytes] = text.split(b"\n") if text else []
        # SQL promises no order to an aggregate, and lines sort by their cursors.
        lines.sort()
        full = len(lines) == limit or len(text or b"") >= _PAGE_BYTES
        start = len(self._json_head)
        return Lines(lines, int(lines[-1][start : start + 20]) if full else until)

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

    async def trim(self, before_micros: int | None, max_bytes: int | None) -> int:
        deleted, floor = await self._on_writer(lambda: self._trim(before_micros, max_bytes))
        self._floor = max(self._floor, floor)
        return deleted

    async def close(self) -> None:
        try:
            await self._on_writer(lambda: self._connection.close())
        finally:
            self._writer.shutdown()
            self._readers.shutdown()
            for connection in self._opened:
                connection.close()
            self._lock.release()

    # On the writer thread

    def _open_writer(self) -> None:
        self._connection = open_writer(self._path, "sqlite_log")
        with self._connection:
            self._connection.execute(
                "INSERT OR IGNORE INTO log VALUES (1, ?, 0, 0, 0)", (new_epoch(),)
            )
        row = _one(self._connection, "SELECT epoch, head, floor, bytes FROM log")
        self._epoch, self._written, self._trimmed, self._bytes = row
        self._json_head = json_head(self._epoch)
        newest = self._connection.execute(
            "SELECT recorded_at FROM event ORDER BY offset DESC LIMIT 1"
        ).fetchone()
        self._recorded_at = newest[0] if newest else 0

    def _append(self, batches: Sequence[Sequence[Draft]]) -> tuple[list[Appended], int]:
        # The wall clock may step back; `recorded_at` may not.
        now = max(self._recorded_at, int(self._clock.now() * 1_000_000))
        try:
            self._mend()
            execute = self._connection.execute
            execute("BEGIN IMMEDIATE")
            try:
                group = Group(self._connection, self._written, self._bytes, now)
                results = group.append(batches)
                execute("UPDATE log SET head = ?, bytes = ?", (group.head, group.bytes))
                execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    execute("ROLLBACK")
                raise
        except apsw.Error as error:
            self._broken = self._broken or isinstance(error, apsw.IOError)
            raise unavailable(error, "the events were not stored") from error
        self._written, self._bytes, self._recorded_at = group.head, group.bytes, now
        return results, group.head

    def _mend(self) -> None:
        """After an I/O error the connection may hold pages that never reached the disk."""
        if self._broken:
            self._connection.close()
            self._open_writer()
            self._broken = False

    def _trim(self, before_micros: int | None, max_bytes: int | None) -> tuple[int, int]:
        try:
            self._mend()
            return self._trim_step(before_micros, max_bytes)
        except apsw.Error as error:
            self._broken = self._broken or isinstance(error, apsw.IOError)
            raise unavailable(error, "old events were not deleted") from error

    def _trim_step(self, before_micros: int | None, max_bytes: int | None) -> tuple[int, int]:
        execute = self._connection.execute
        floor, size, deleted = self._trimmed, self._bytes, 0
        oldest: list[Any] = execute(
            "SELECT offset, recorded_at, length(body) FROM event ORDER BY offset LIMIT ?",
            (_TRIM_ROWS,),
        ).fetchall()
        for offset, recorded_at, length in oldest:
            too_old = before_micros is not None and recorded_at < before_micros
            too_much = max_bytes is not None and size > max_bytes
            if not (too_old or too_much):
                break
            floor, size, deleted = offset, size - length, deleted + 1
        if deleted:
            with self._connection:
                execute("DELETE FROM event WHERE offset <= ?", (floor,))
                execute("UPDATE log SET floor = ?, bytes = ?", (floor, size))
            self._trimmed, self._bytes = floor, size
        return deleted, floor

    # On any thread, each with a connection of its own

    def _reader(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_reader(self._path)
            self._opened.append(connection)
        return connection

    def _scan_end(self, after: int, until: int, condition: str) -> int:
        return min(until, after + _SCAN) if condition else until

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
                if size >= _PAGE_BYTES:
                    return Page(events, events[-1].offset)
        return Page(events, events[-1].offset if len(events) == limit else until)

    def _read_page(self, sql: str, bound: tuple[str | int, ...], after: int) -> Any:
        connection = self._reader()
        with connection:
            self._check_floor(connection, after)
            return connection.execute(sql, bound).fetchone()

    def _check_floor(self, connection: apsw.Connection, after: int) -> None:
        if after < _one(connection, "SELECT floor FROM log")[0]:
            raise Overtaken

    def _last_before(self, micros: int) -> int:
        """Bisect: `recorded_at` never decreases with the offset, and offsets have no gaps."""
        connection = self._reader()
        with connection:
            low, high = _one(connection, "SELECT floor, head FROM log")
            while low < high:
                middle = (low + high + 1) // 2
                sql = "SELECT recorded_at FROM event WHERE offset = ?"
                recorded_at = _one(connection, sql, middle)[0]
                if recorded_at < micros:
                    low = middle
                else:
                    high = middle - 1
        return int(low)

    async def _on_writer(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def _on_reader(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, work)
        except apsw.Error as error:
            raise unavailable(error, "the log cannot be read") from error


def _yield_to_live_streams() -> None:
    """Where the system has priorities per thread, catching up never delays what is live."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _one(connection: apsw.Connection, sql: str, *bound: int) -> Any:
    """The one row of a query that always has one."""
    return connection.execute(sql, bound).fetchone()
