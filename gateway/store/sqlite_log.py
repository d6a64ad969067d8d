"""The embedded log: SQLite in WAL mode, one writer thread, readers beside it.

`append` runs one transaction on the writer thread; callers group requests into
one call, so that one sync to disk serves them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw

from gateway.clock import Clock
from gateway.cursor import new_epoch
from gateway.event import Draft
from gateway.store.folder import WriterLock
from gateway.store.fresh import Fresh
from gateway.store.ports import Appended, Narrowing, Page
from gateway.store.sqlite import open_writer, unavailable
from gateway.store.sqlite_batch import Group
from gateway.store.sqlite_reader import PAGE_BYTES, SqliteReader, one_row

T = TypeVar("T")

_TRIM_ROWS = 5_000


class SqliteLog(SqliteReader):
    """`Log` in one SQLite file. Use `await SqliteLog.open(...)`."""

    def __init__(self, path: Path, clock: Clock, lock: WriterLock) -> None:
        super().__init__(path)
        self._clock = clock
        self._lock = lock
        self._writer = ThreadPoolExecutor(1, "log-writer")
        self._fresh = Fresh()
        # What the file holds: known to the writer thread alone, which never waits for the loop.
        self._written = self._trimmed = self._bytes = self._recorded_at = 0
        self._broken = False

    @classmethod
    async def open(cls, path: Path, clock: Clock, lock: WriterLock | None = None) -> SqliteLog:
        """Open or create the log, and take the right to write it, unless `lock` is that right.

        Raises `FolderLocked` when another process has it.
        """
        log = cls(path, clock, lock or WriterLock(path))
        try:
            epoch = await log._on_writer(log._open_writer)
            log._opened(epoch, log._written, log._trimmed)
        except BaseException:
            log._writer.shutdown()
            log._close_readers()
            log._lock.release()
            raise
        return log

    async def append(self, batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        results, group = await self._on_writer(lambda: self._append(batches))
        if group.drafts:
            self._fresh.add(group.head - len(group.drafts) + 1, group.drafts, group.bodies)
        self._moved(group.head, self._floor)
        return results

    async def read(
        self, after: int, until: int, *, limit: int, narrowing: Narrowing | None = None
    ) -> Page:
        if narrowing is None and after >= self._floor:
            until = min(until, self._head)
            page = self._fresh.page(after, until, limit, PAGE_BYTES, self._json_head)
            if page is not None:
                return page
        return await super().read(after, until, limit=limit, narrowing=narrowing)

    async def trim(self, before_micros: int | None, max_bytes: int | None) -> int:
        deleted, floor = await self._on_writer(lambda: self._trim(before_micros, max_bytes))
        self._moved(self._head, floor)
        return deleted

    async def close(self) -> None:
        try:
            await self._on_writer(lambda: self._connection.close())
        finally:
            self._writer.shutdown()
            self._close_readers()
            self._lock.release()

    # On the writer thread

    def _open_writer(self) -> str:
        self._connection = open_writer(self._path, "sqlite_log")
        with self._connection:
            self._connection.execute(
                "INSERT OR IGNORE INTO log VALUES (1, ?, 0, 0, 0)", (new_epoch(),)
            )
        row = one_row(self._connection, "SELECT epoch, head, floor, bytes FROM log")
        epoch, self._written, self._trimmed, self._bytes = row
        newest = self._connection.execute(
            "SELECT recorded_at FROM event ORDER BY offset DESC LIMIT 1"
        ).fetchone()
        self._recorded_at = newest[0] if newest else 0
        return str(epoch)

    def _append(self, batches: Sequence[Sequence[Draft]]) -> tuple[list[Appended], Group]:
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
        return results, group

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

    async def _on_writer(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)
