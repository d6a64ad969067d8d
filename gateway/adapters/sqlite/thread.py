"""The one way to use an SQLite file: on threads of its own, never on the event loop's.

Another process may hold a lock for seconds, and a disk may take as long. Whoever waits for
that is the caller alone; the event loop goes on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import apsw

from gateway.adapters.files.same_file import SameFile
from gateway.tasks import no_threads

T = TypeVar("T")

# What has waited in the queue for so long is not begun: its caller has waited long enough.
PATIENCE_SECONDS = 5.0
_READ_POLL_SECONDS = 0.1


class _Job(NamedTuple):
    """Work that was asked for at a time (`time.monotonic`), and who is told what came of it."""

    work: Callable[[apsw.Connection], Any]
    asked: float
    unwanted: Callable[[], bool]
    tell: Callable[[Any, BaseException | None], object]


class SqliteThreads:
    """Threads with an SQLite connection each, which no other thread uses.

    Ordering: with one thread, calls run in the order in which they were made. Each call is one
    function that has the connection to itself until it returns, so what it does in a transaction
    is atomic; it must touch nothing that belongs to the event loop. It goes on when its caller is
    cancelled, unless it has not begun.

    With `file`, nothing is returned that was read from, or written into, a file that is not at its
    path any more: `Unavailable` is raised instead, and nothing is opened in its place.

    The threads are started at once and stay, so that none has to be made when threads are
    short. Each opens its connection when it is first used, and again after `drop`. They are not
    those of an executor: what that does for each call takes longer than a small read.
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
        self._recent = _READ_POLL_SECONDS if only_reads else 0.0
        self._local = threading.local()
        self._connections: set[apsw.Connection] = set()
        self._begin = begin
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        # Of the daemon kind: whoever leaves without `close` is not kept by them.
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}_{number}", daemon=True)
            for number in range(count)
        ]
        self._start()

    async def run(self, work: Callable[[apsw.Connection], T]) -> T:
        """What `work` returns or raises. Raises `apsw.BusyError` if it had to wait too long
        for what was asked for before it."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def tell(result: Any, error: BaseException | None) -> None:
            try:
                loop.call_soon_threadsafe(_settle, done, result, error)
            except RuntimeError:
                # The loop is closed, and who has waited is gone with it.
                pass

        self._ask(_Job(work, time.monotonic(), done.cancelled, tell))
        return await done

    def run_now(self, work: Callable[[apsw.Connection], T]) -> T:
        """The same for a caller that has no event loop to hold up, as before the start."""
        done: Future[T] = Future()

        def tell(result: Any, error: BaseException | None) -> None:
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)

        self._ask(_Job(work, time.monotonic(), done.cancelled, tell))
        return done.result()

    def drop(self) -> None:
        """Within `work`: give up a connection that can no longer be trusted, as after an I/O
        error, when it may hold pages that never reached the disk. The next call opens another."""
        connection: apsw.Connection = self._local.connection
        self._local.connection = None
        self._connections.discard(connection)
        connection.close(True)

    def close(self) -> None:
        """End the threads once they have done what was asked of them."""
        self._end()
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def _ask(self, job: _Job) -> None:
        if self._closed:
            raise RuntimeError("the threads of this file have ended")
        self._jobs.put(job)

    def _start(self) -> None:
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            self._end()
            raise no_threads(error) from error

    def _end(self) -> None:
        self._closed = True
        started = [thread for thread in self._threads if thread.ident is not None]
        for _ in started:
            self._jobs.put(None)
        for thread in started:
            thread.join()

    def _serve(self) -> None:
        """Do what is asked, until the end. On each of the threads."""
        self._begin()
        while (job := self._jobs.get()) is not None:
            if not job.unwanted():
                try:
                    done = self._work(job.work, job.asked)
                except BaseException as error:
                    job.tell(None, error)
                else:
                    job.tell(done, None)
                    del done
            # What it holds may be large, and the next one may come late.
            del job

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


def _settle(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.done():
        # Whoever has waited was cancelled.
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)
