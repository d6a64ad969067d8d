"""Reading rows whose documents take long: by a thread, so that the event loop has its turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import asyncpg

from gateway.tasks import no_threads

T = TypeVar("T")
# What a document costs is about its bytes; less takes below a millisecond.
_AT_ONCE_BYTES = 16 * 1024


class RowReader:
    """One thread, started at once: not when threads are short."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "row-reader")
        try:
            self._thread.submit(lambda: None)
        except RuntimeError as error:
            raise no_threads(error) from error

    async def read(
        self, read: Callable[[asyncpg.Record], T], rows: Sequence[asyncpg.Record]
    ) -> list[T]:
        """What `read` makes of each row, which has a `document`."""
        if sum(len(row["document"]) for row in rows) <= _AT_ONCE_BYTES:
            return [read(row) for row in rows]
        return await self.work(lambda: [read(row) for row in rows])

    async def work(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises; it must touch nothing of the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown(wait=False)
