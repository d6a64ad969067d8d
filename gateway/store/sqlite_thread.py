"""The one way to use an SQLite file: on threads of its own, never on the event loop's.

Another process may hold a lock for seconds, and a disk may take as long. Whoever waits for
that is the caller alone; the event loop goes on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import apsw

from gateway.store.same_file import SameFile
from gateway.tasks import no_threads

T = TypeVar("T")

# What has waited in the queue for so long is not begun: its caller has waited long enough.
PATIENCE_SECONDS = 5.0
_READ_LOOK_SECONDS = 0.1


class SqliteThreads:
    """Threads with an SQLite connection each, which no other thread uses.

    Ordering: with one thread, calls run in the order in which they were made. Each call is one
    function that has the connection to itself until it returns, so what it does in a transaction
    is atomic; it must touch nothing that belongs to the event loop. It goes on when its caller is
    cancelled, unless it has not begun.

    With `file`, nothing is returned that was read from, or written into, a file that is not at its
    path any more: `Unavailable` is raised instead, and nothing is opened in its place.

    The threads are started at once and stay, so that none has to be made when threads are
    short. Each opens its connection when it is first used, and again after `drop`.
    """

    def __init__(
        self,
        name: str,
        open_connection: Callable[[], apsw.Connection],
        count: int = 1,
        *,
        patience: float = PATIENCE_SECONDS,
        file: SameFile | None = None,
        only_reads: bool = False,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self._open = open_connection
        self._patience = patience
        self._file = file
        # What is acknowledged is looked after at once; reads are many.
        self._recent = _READ_LOOK_SECONDS if only_reads else 0.0
        self._local = threading.local()
        self._connections: set[apsw.Connection] = set()
        self._threads = ThreadPoolExecutor(count, name, begin)
        self._start(count)

    async def run(self, work: Callable[[apsw.Connection], T]) -> T:
        """What `work` returns or raises. Raises `apsw.BusyError` if it had to wait too long
        for what was asked for before it."""
        loop = asyncio.get_running_loop()
        asked = time.monotonic()
        return await loop.run_in_executor(self._threads, lambda: self._work(work, asked))

    def run_now(self, work: Callable[[apsw.Connection], T]) -> T:
        """The same for a caller that has no event loop to hold up, as before the start."""
        asked = time.monotonic()
        return self._threads.submit(lambda: self._work(work, asked)).result()

    def drop(self) -> None:
        """Within `work`: give up a connection that can no longer be trusted, as after an I/O
        error, when it may hold pages that never reached the disk. The next call opens another."""
        connection: apsw.Connection = self._local.connection
        self._local.connection = None
        self._connections.discard(connection)
        connection.close(True)

    def close(self) -> None:
        """End the threads once they have done what was asked of them."""
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def _start(self, count: int) -> None:
        """Each thread waits for the last one: else one that is idle would be used again."""
        all_there = threading.Barrier(count)
        started: list[Future[int]] = []
        try:
            for _ in range(count):
                started.append(self._threads.submit(all_there.wait))
            for one in started:
                one.result()
        except BaseException as error:
            all_there.abort()
            self._threads.shutdown()
            if isinstance(error, RuntimeError):
                raise no_threads(error) from error
            raise

    def _work(self, work: Callable[[apsw.Connection], T], asked: float) -> T:
        if time.monotonic() - asked > self._patience:
            raise apsw.BusyError("it is busy with what was asked for before")
        done = work(self._connection())
        if self._file is not None:
            # Behind the commit: what is acknowledged has to be found by the next process.
            self._file.check(self._recent)
        return done

    def _connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            if self._file is not None:
                self._file.check()
            connection = self._local.connection = self._open()
            self._connections.add(connection)
            if self._file is not None:
                self._file.opened()
        return connection
