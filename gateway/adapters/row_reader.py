"""Decoding of large row documents on a thread, so that the event loop is not blocked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import asyncpg

from gateway.tasks import no_threads

T = TypeVar("T")
# Decoding time grows with the bytes; fewer take below a millisecond.
_AT_ONCE_BYTES = 16 * 1024


class RowReader:
    """One decoding thread, started at once so that it exists when threads are short."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "row-reader")
        try:
            self._thread.submit(lambda: None)
        except RuntimeError as error:
            raise no_threads(error) from error

    async def read(
        self, read: Callable[[asyncpg.Record], T], rows: Sequence[asyncpg.Record]
    ) -> list[T]:
        """Results of `read` for each row, which has a `document`."""
        if sum(len(row["document"]) for row in rows) <= _AT_ONCE_BYTES:
            return [read(row) for row in rows]
        return await self.work(lambda: [read(row) for row in rows])

    async def work(self, work: Callable[[], T]) -> T:
        """Result or exception of `work`, which must not touch the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown(wait=False)
