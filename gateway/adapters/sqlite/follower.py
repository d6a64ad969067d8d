"""The embedded log for the other processes of a gateway: they read the file directly, and append
through the process that writes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from gateway.adapters.sqlite.reader import UNREADABLE, SqliteReader, one_row
from gateway.adapters.sqlite.writer_link import WriterLink
from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.event import Draft, Event
from gateway.log.ports import Appended
from gateway.tasks import PLAIN, Tasks, stop

# A fallback: the writer announces every append.
_POLL_SECONDS = 0.1
_LOGGER = logging.getLogger(__name__)


class SqliteFollower(SqliteReader):
    """`Log` in an SQLite file that another process writes. Use `await SqliteFollower.open(...)`.

    While that process is away, `append` and `trim` raise `Unavailable`; reads continue.
    """

    def __init__(self, path: Path, link: Path, clock: Clock, secret: bytes) -> None:
        super().__init__(path, secret)
        self._clock = clock
        self._link = WriterLink(link, clock, self._moved)
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        path: Path,
        link: Path,
        clock: Clock,
        tasks: Tasks = PLAIN,
        *,
        secret: bytes = b"",
    ) -> SqliteFollower:
        """Follow the log at `path`, whose writer listens on the Unix socket `link`. `secret` is the
        secret of the log.

        Raises `Unavailable` if there is no log yet. The writer may be away.
        """
        follower = cls(path, link, clock, secret)
        try:
            sql = "SELECT epoch, head, floor FROM log"
            state = await follower._small.use(
                lambda connection: one_row(connection, sql), f"{path} cannot be followed"
            )
        except Unavailable:
            follower._close_readers()
            raise
        follower._opened(*state)
        follower._tasks = [
            tasks.keep("writer_link", follower._link.run),
            tasks.keep("log_look", follower._look_often),
        ]
        return follower

    async def connected(self) -> None:
        """Wait until the writer is connected."""
        await self._link.connected()

    async def append(self, batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        return await self._link.append(batches)

    async def trim(self, before_micros: int | None, max_bytes: int | None) -> int:
        return await self._link.trim(before_micros, max_bytes)

    async def find(self, event_id: str, tenant: str | None, after: int = 0) -> list[Event]:
        await self._poll()
        return await super().find(event_id, tenant, after)

    async def catch_up(self) -> None:
        await self._poll()

    async def close(self) -> None:
        await stop(self._tasks)
        self._close_readers()

    async def _poll(self) -> None:
        """Learn head and floor: SQLite shows a commit only after its sync, so they are durable."""
        sql = "SELECT head, floor FROM log"
        state = await self._small.use(lambda connection: one_row(connection, sql), UNREADABLE)
        self._moved(*state)

    async def _look_often(self) -> None:
        away = False
        while True:
            await self._clock.sleep(_POLL_SECONDS)
            try:
                await self._poll()
                away = False
            except Unavailable as error:
                if not away:
                    _LOGGER.warning("%s; trying again", error.detail)
                away = True
