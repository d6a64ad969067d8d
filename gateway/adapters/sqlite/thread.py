"""Threads for an SQLite file, so that its use never blocks the event loop.

Another process may hold a lock for seconds, and a disk may take as long. Only the caller waits.
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
from gateway.adapters.sqlite.database import unavailable
from gateway.adapters.timed import timed
from gateway.histogram import Histogram
from gateway.tasks import threads_unavailable

T = TypeVar("T")

# Seconds in the queue after which a job is refused instead of begun.
PATIENCE_SECONDS = 5.0
_READ_POLL_SECONDS = 0.1


class _Job(NamedTuple):
    """A job, when it was asked for (`time.monotonic`), and the callback for its outcome."""

    work: Callable[[apsw.Connection], Any]
    asked: float
    unwanted: Callable[[], bool]
    tell: Callable[[Any, BaseException | None], object]


class SqliteThreads:
    """Threads with an SQLite connection each, which no other thread uses.

    Ordering: with one thread, calls run in the order in which they were made. Each call is one
    function that has the connection to itself until it returns, so what it does in a transaction
    is atomic; it must not touch the event loop. It continues when its caller is cancelled, unless
    it has not begun.

    A call raises `Unavailable` if the `file` is no longer at its path: nothing read
    from it or written into it is returned, and no other file is opened in its place.

    The threads start at once and stay, so that none has to be created when threads are short. Each
    opens its connection at the first use, and again after an I/O error. An executor is not used:
    its overhead per call exceeds a small read.
    """

    def __init__(
        self,
        name: str,
        open_connection: Callable[[], apsw.Connection],
        count: int = 1,
        *,
        patience: float = PATIENCE_SECONDS,
        file: SameFile,
        only_reads: bool = False,
        seconds: Histogram | None = None,
    ) -> None:
        self._open = open_connection
        self._patience = patience
        self._file = file
        # Writes check the file every time; reads are frequent and check it less often.
        self._recent = _READ_POLL_SECONDS if only_reads else 0.0
        self._local = threading.local()
        self._connections: set[apsw.Connection] = set()
        self._seconds = seconds
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        # Daemon threads: a process that ends without `close` does not wait for them.
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}_{number}", daemon=True)
            for number in range(count)
        ]
        self._start()

    async def run(self, work: Callable[[apsw.Connection], T]) -> T:
        """Result or exception of `work`. Raises `apsw.BusyError` if it waited too long."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def tell(result: Any, error: BaseException | None) -> None:
            try:
                loop.call_soon_threadsafe(_settle, done, result, error)
            except RuntimeError:
                # The loop is closed, so nobody waits any more.
                pass

        self._ask(_Job(work, time.monotonic(), done.cancelled, tell))
        return await done

    async def use(self, work: Callable[[apsw.Connection], T], refusal: str) -> T:
        """Do the same as `run`; a failure of SQLite is an error whose text begins with `refusal`.

        How long it took is added to `seconds`.
        """
        try:
            with timed(self._seconds, "store.read" if self._recent else "store.write"):
                return await self.run(work)
        except apsw.Error as error:
            raise unavailable(error, refusal) from error

    def run_now(self, work: Callable[[apsw.Connection], T]) -> T:
        """Result or exception of `work`; blocks, for callers without an event loop."""
        done: Future[T] = Future()

        def tell(result: Any, error: BaseException | None) -> None:
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)

        self._ask(_Job(work, time.monotonic(), done.cancelled, tell))
        return done.result()

    def close(self) -> None:
        """Finish all queued jobs, then end the threads."""
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
            raise threads_unavailable(error) from error

    def _end(self) -> None:
        self._closed = True
        started = [thread for thread in self._threads if thread.ident is not None]
        for _ in started:
            self._jobs.put(None)
        for thread in started:
            thread.join()

    def _serve(self) -> None:
        """Run queued jobs until the end. The main function of each thread."""
        while (job := self._jobs.get()) is not None:
            if not job.unwanted():
                try:
                    done = self._work(job.work, job.asked)
                except BaseException as error:
                    job.tell(None, error)
                else:
                    job.tell(done, None)
                    del done
            # Release the job, which may be large, before waiting for the next.
            del job

    def _work(self, work: Callable[[apsw.Connection], T], asked: float) -> T:
        if time.monotonic() - asked > self._patience:
            raise apsw.BusyError("it is busy with what was asked for before")
        connection = self._connection()
        try:
            done = work(connection)
        except apsw.IOError:
            # It may hold pages that never reached the disk: the next call opens another.
            self._local.connection = None
            self._connections.discard(connection)
            connection.close(True)
            raise
        # After the commit: the next process has to find what is acknowledged.
        self._file.check(self._recent)
        return done

    def _connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            self._file.check()
            connection = self._local.connection = self._open()
            self._connections.add(connection)
            self._file.opened()
        return connection


def _settle(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.done():
        # The caller was cancelled.
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)
