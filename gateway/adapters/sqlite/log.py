"""The embedded log: SQLite in WAL mode, one writer thread, concurrent readers.

`append` runs one transaction on the writer thread; callers group requests into one call, so that
one sync to disk serves them all.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

from gateway.adapters.files.folder import WriterLock
from gateway.adapters.sqlite.batch import WriteGroup
from gateway.adapters.sqlite.copy_detection import record_close, record_open
from gateway.adapters.sqlite.database import open_writer, writing
from gateway.adapters.sqlite.dedup import Dedup
from gateway.adapters.sqlite.reader import PAGE_BYTES, SqliteReader, one_row
from gateway.adapters.sqlite.thread import SqliteThreads
from gateway.clock import Clock
from gateway.cursor import new_epoch
from gateway.errors import Unavailable
from gateway.event import Draft
from gateway.log.ports import Appended, Page, ScanHint
from gateway.log.recent_events import RecentEvents
from gateway.tasks import PLAIN, Tasks, stop

_TRIM_ROWS = 5_000
_TAKE_UP_PAUSE = 0.01
_AGAIN_SECONDS = 5.0
_LOGGER = logging.getLogger(__name__)
_STATE = "SELECT epoch, head, floor, bytes FROM log"


class SqliteLog(SqliteReader):
    """`Log` in one SQLite file. Use `await SqliteLog.open(...)`."""

    def __init__(self, path: Path, clock: Clock, lock: WriterLock, secret: bytes) -> None:
        super().__init__(path, secret)
        self._clock = clock
        self._lock = lock
        # No time limit in the thread: the queue before it bounds the wait.
        self._writer = SqliteThreads(
            "log-writer", self._open_writer, patience=math.inf, file=self._file
        )
        self._recorded = False
        self._recent_events = RecentEvents()
        # State of the file, known to the writer thread alone, which never waits for the loop.
        self._written = self._trimmed = self._bytes = self._recorded_at = 0
        self._dedup: Dedup
        self._taking_up: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, path: Path, clock: Clock, lock: WriterLock | None = None, tasks: Tasks = PLAIN, *,
        secret: bytes = b"",
    ) -> SqliteLog:  # fmt: skip
        """Open or create the log, and lock it for writing unless `lock` is that lock already.
        `secret` is the secret of the log, which never changes.

        Raises `FolderLocked` if another process holds the lock.
        """
        log = cls(path, clock, lock or WriterLock(path), secret)
        try:
            row = await log._writer.run(lambda connection: one_row(connection, _STATE))
            log._opened(*row[:3])
            if log._dedup.has_old:
                log._taking_up = tasks.keep("old_event_ids", log._take_up_old)
        except BaseException:
            log._writer.close()
            log._close_readers()
            log._lock.release()
            raise
        return log

    async def append(self, batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        results, group = await self._writer.use(
            lambda connection: self._append(connection, batches), "the events were not stored"
        )
        if group.drafts:
            self._recent_events.add(group.head - len(group.drafts) + 1, group.drafts, group.bodies)
        self._moved(group.head, self.floor)
        return results

    async def read(
        self, after: int, until: int, *, limit: int, hint: ScanHint | None = None
    ) -> Page:
        if hint is None and after >= self.floor:
            until = min(until, self.head)
            page = self._recent_events.page(after, until, limit, PAGE_BYTES, self._json_head)
            if page is not None:
                return page
        return await super().read(after, until, limit=limit, hint=hint)

    async def trim(self, before_micros: int | None, max_bytes: int | None) -> int:
        deleted, floor = await self._writer.use(
            lambda connection: self._trim(connection, before_micros, max_bytes),
            "old events were not deleted",
        )
        self._moved(self.head, floor)
        return deleted

    async def close(self) -> None:
        if self._taking_up is not None:
            await stop([self._taking_up])
        try:
            await self._writer.use(record_close, "the stop was not noted")
        except Unavailable as error:
            _LOGGER.warning("%s; the log may get a new epoch if it is moved", error.detail)
        # Last, so that it checkpoints the write-ahead log.
        self._close_readers()
        self._writer.close()
        self._lock.release()

    # Methods on the writer thread

    def _open_writer(self) -> apsw.Connection:
        connection = open_writer(self._path, "sqlite_log")
        try:
            with writing(connection):
                connection.execute(
                    "INSERT OR IGNORE INTO log VALUES (1, ?, 0, 0, 0)", (new_epoch(),)
                )
                if not self._recorded:
                    record_open(connection, self._path)
                self._dedup = Dedup(connection, self._values)
                if self._dedup.has_old:
                    self._dedup.take_up_old()
            _, self._written, self._trimmed, self._bytes = one_row(connection, _STATE)
            newest = connection.execute(
                "SELECT recorded_at FROM event ORDER BY offset DESC LIMIT 1"
            ).fetchone()
        except BaseException:
            connection.close(True)
            raise
        self._recorded_at = newest[0] if newest else 0
        self._recorded = True
        return connection

    def _append(
        self, connection: apsw.Connection, batches: Sequence[Sequence[Draft]]
    ) -> tuple[list[Appended], WriteGroup]:
        # The wall clock may step back; `recorded_at` may not.
        now = max(self._recorded_at, int(self._clock.now() * 1_000_000))
        with writing(connection):
            group = WriteGroup(connection, self._dedup, self._written, self._bytes, now)
            results = group.append(batches)
            connection.execute("UPDATE log SET head = ?, bytes = ?", (group.head, group.bytes))
        self._written, self._bytes, self._recorded_at = group.head, group.bytes, now
        return results, group

    async def _take_up_old(self) -> None:
        """Add the events from before keyed values existed to the index, some at a time."""
        more = True
        while more:
            try:
                more = await self._writer.use(
                    self._take_up_some, "ids of old events cannot be kept"
                )
                await self._clock.sleep(_TAKE_UP_PAUSE)
            except Unavailable as error:
                _LOGGER.warning("%s; trying again", error.detail)
                await self._clock.sleep(_AGAIN_SECONDS)

    def _take_up_some(self, connection: apsw.Connection) -> bool:
        with writing(connection):
            return self._dedup.take_up_old()

    def _trim(
        self, connection: apsw.Connection, before_micros: int | None, max_bytes: int | None
    ) -> tuple[int, int]:
        execute = connection.execute
        floor, size, deleted = self._trimmed, self._bytes, 0
        oldest: list[Any] = execute(
            "SELECT offset, recorded_at, length(body), id, tenant FROM event "
            "ORDER BY offset LIMIT ?",
            (_TRIM_ROWS,),
        ).fetchall()
        for offset, recorded_at, length, *_ in oldest:
            too_old = before_micros is not None and recorded_at < before_micros
            too_much = max_bytes is not None and size > max_bytes
            if not (too_old or too_much):
                break
            floor, size, deleted = offset, size - length, deleted + 1
        if deleted:
            with writing(connection):
                gone = [(offset, name, tenant) for offset, _, _, name, tenant in oldest[:deleted]]
                self._dedup.forget(floor, gone)
                execute("DELETE FROM event WHERE offset <= ?", (floor,))
                execute("UPDATE log SET floor = ?, bytes = ?", (floor, size))
            self._trimmed, self._bytes = floor, size
        return deleted, floor
