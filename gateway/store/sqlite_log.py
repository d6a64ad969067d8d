"""The embedded log: SQLite in WAL mode, one writer thread, readers beside it.

`append` runs one transaction on the writer thread; callers group requests into
one call, so that one sync to disk serves them all. Small reads (the live tail)
run on the caller's thread, because a hop to another costs more than the read;
larger ones run on reader threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw

from gateway.clock import Clock, format_rfc3339
from gateway.cursor import new_epoch
from gateway.event import Draft, Event
from gateway.store.folder import WriterLock
from gateway.store.narrow import narrow_sql
from gateway.store.ports import Appended, Narrowing, Overtaken, Page
from gateway.store.sqlite import open_reader, open_writer, unavailable

T = TypeVar("T")

_COLUMNS = "offset, tenant, category, action, outcome, severity, actor, resources, body"
_INSERT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# One narrowed read looks at no more offsets than this, so that a selective
# filter over a long log still moves its cursor several times a second.
_SCAN = 200_000
_PAGE_BYTES = 1 << 20
_SMALL_READ = 256
_TRIM_ROWS = 5_000
_READERS = 4


class SqliteLog:
    """`Log` in one SQLite file. Use `await SqliteLog.open(...)`."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = WriterLock(path)
        self._writer = ThreadPoolExecutor(1, "log-writer")
        self._readers = ThreadPoolExecutor(_READERS, "log-reader")
        self._local = threading.local()
        self._opened: list[apsw.Connection] = []
        self._listeners: list[Callable[[], None]] = []
        self._epoch = ""
        self._prefix = b""
        self._head = self._floor = self._bytes = self._recorded_at = 0

    @classmethod
    async def open(cls, path: Path, clock: Clock) -> SqliteLog:
        """Open or create the log, and take the right to write it.

        Raises `FolderLocked` when another process has it.
        """
        log = cls(path, clock)
        try:
            await log._on_writer(log._open_writer)
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
        results, head, size = await self._on_writer(lambda: self._append(batches))
        self._bytes = size
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
            return self._read(after, until, limit, narrowing)
        return await self._on_reader(lambda: self._read(after, until, limit, narrowing))

    async def find(self, event_id: str, tenant: str | None) -> list[Event]:
        condition, bound = "id = ?", [event_id]
        if tenant is not None:
            condition, bound = "id = ? AND tenant = ?", [event_id, tenant]
        sql = f"SELECT {_COLUMNS} FROM event WHERE {condition} AND offset <= {self._head}"
        return await self._on_reader(
            lambda: [self._event(row) for row in self._reader().execute(sql, bound)]
        )

    async def last_before(self, micros: int) -> int:
        return await self._on_reader(lambda: self._last_before(micros))

    async def trim(self, before_micros: int | None, max_bytes: int | None) -> int:
        deleted, self._floor, self._bytes = await self._on_writer(
            lambda: self._trim(before_micros, max_bytes)
        )
        return deleted

    async def close(self) -> None:
        await self._on_writer(lambda: self._connection.close())
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
        self._epoch, self._head, self._floor, self._bytes = row
        self._prefix = f'{{"cursor":"{self._epoch}-'.encode()
        newest = self._connection.execute(
            "SELECT recorded_at FROM event ORDER BY offset DESC LIMIT 1"
        ).fetchone()
        self._recorded_at = newest[0] if newest else 0

    def _append(self, batches: Sequence[Sequence[Draft]]) -> tuple[list[Appended], int, int]:
        # The wall clock may step back; `recorded_at` may not.
        now = max(self._recorded_at, int(self._clock.now() * 1_000_000))
        stamp = format_rfc3339(now).encode()
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            try:
                head, size, results = self._head, self._bytes, []
                for batch in batches:
                    appended, head, size = self._append_batch(batch, head, size, now, stamp)
                    results.append(appended)
                execute("UPDATE log SET head = ?, bytes = ?", (head, size))
                execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    execute("ROLLBACK")
                raise
        except apsw.Error as error:
            self._reopen_after(error)
            raise unavailable(error, "the events were not stored") from error
        self._recorded_at = now
        return results, head, size

    def _append_batch(
        self, batch: Sequence[Draft], head: int, size: int, now: int, stamp: bytes
    ) -> tuple[Appended, int, int]:
        rows = [_row(draft, head + place, now, stamp) for place, draft in enumerate(batch, 1)]
        execute = self._connection.execute
        execute("SAVEPOINT batch")
        try:
            self._connection.executemany(_INSERT, rows)
        except apsw.ConstraintError:
            execute("ROLLBACK TO batch")
            return self._append_singly(rows, head, size)
        finally:
            execute("RELEASE batch")
        size += sum(len(row[-1]) for row in rows)
        count = len(rows)
        return (
            Appended(count, 0, head + 1 if count else 0, head + count if count else 0),
            (head + count),
            size,
        )

    def _append_singly(self, rows: list[_Row], head: int, size: int) -> tuple[Appended, int, int]:
        """The same when some ids are there already."""
        execute = self._connection.execute
        places = []
        accepted = 0
        for row in rows:
            known = execute(
                "SELECT offset FROM event WHERE id = ? AND tenant = ?", (row[9], row[2])
            ).fetchone()
            if known:
                places.append(known[0])
                continue
            head += 1
            accepted += 1
            size += len(row[-1])
            execute(_INSERT, (head, *row[1:]))
            places.append(head)
        return Appended(accepted, len(rows) - accepted, min(places), max(places)), head, size

    def _reopen_after(self, error: apsw.Error) -> None:
        """After an I/O error the connection may hold pages that never reached the disk."""
        if isinstance(error, apsw.IOError):
            self._connection.close()
            self._open_writer()

    def _trim(self, before_micros: int | None, max_bytes: int | None) -> tuple[int, int, int]:
        execute = self._connection.execute
        floor, size, deleted = self._floor, self._bytes, 0
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
            try:
                with self._connection:
                    execute("DELETE FROM event WHERE offset <= ?", (floor,))
                    execute("UPDATE log SET floor = ?, bytes = ?", (floor, size))
            except apsw.Error as error:
                raise unavailable(error, "old events were not deleted") from error
        return deleted, floor, size

    # On any thread, each with a connection of its own

    def _reader(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_reader(self._path)
            self._opened.append(connection)
        return connection

    def _read(self, after: int, until: int, limit: int, narrowing: Narrowing | None) -> Page:
        condition, bound = narrow_sql(narrowing)
        if condition:
            until = min(until, after + _SCAN)
        connection = self._reader()
        events: list[Event] = []
        size = 0
        # One read transaction, so that no event can vanish behind the check of the floor.
        with connection:
            if after < _one(connection, "SELECT floor FROM log")[0]:
                raise Overtaken
            for row in connection.execute(
                f"SELECT {_COLUMNS} FROM event WHERE offset > ? AND offset <= ?{condition} "
                "ORDER BY offset LIMIT ?",
                (after, until, *bound, limit),
            ):
                events.append(self._event(row))
                size += len(row[8])
                if size >= _PAGE_BYTES:
                    return Page(events, events[-1].offset)
        return Page(events, events[-1].offset if len(events) == limit else until)

    def _event(self, row: tuple[int, str, str, str, str, int, str, str, bytes]) -> Event:
        offset, tenant, category, action, outcome, severity, actor, resources, body = row
        head = b"%b%020d" % (self._prefix, offset)
        return Event(
            offset, tenant, category, action, outcome, severity, actor, resources,
            head[11:], b'%b",%b' % (head, body),
        )  # fmt: skip

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


_Row = tuple[int, int, str, str, str, str, int, str, str, str, bytes]


def _one(connection: apsw.Connection, sql: str, *bound: int) -> Any:
    """The one row of a query that always has one."""
    return connection.execute(sql, bound).fetchone()


def _row(draft: Draft, offset: int, now: int, stamp: bytes) -> _Row:
    return (
        offset, now, draft.tenant, draft.category, draft.action, draft.outcome, draft.severity,
        draft.actor, draft.resources, draft.id, draft.stored(stamp),
    )  # fmt: skip
