"""Supervisor of several worker processes on one port: starts, restarts and ends them.

Workers are forked from this process, which has loaded all code but has no event loop, thread or
file of the store open. So a worker starts within milliseconds, and one that dies is hardly missed.
This process holds what must outlive a worker: the right to write the log, listening sockets,
metrics.

Both ends of a worker's control socket notice when the other process is gone: a worker without its
supervisor drains and ends.
"""

from __future__ import annotations

import gc
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

import msgspec

from gateway.adapters.files.folder import WriterLock
from gateway.errors import GatewayError, InternalFailure, Unavailable
from gateway.http.metrics.metrics import Metrics
from gateway.runtime.port import metrics_address
from gateway.runtime.process.event_loop import run as run_event_loop
from gateway.runtime.process.listening import SharedAddress
from gateway.runtime.process.logs import name_worker
from gateway.runtime.stores import claim_log
from gateway.runtime.worker import Worker
from gateway.settings.declarations import Settings

# A worker that ran this long is restarted at once; else after pauses that double.
_STABLE_SECONDS = 5.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
# For the rest of a worker's end after the drain, which takes less than `server.drain_timeout`.
_END_SECONDS = 10.0
# Passing failures and bugs; all others would repeat themselves.
_STARTED_AGAIN = (Unavailable.exit_code, InternalFailure.exit_code)
_LOGGER = logging.getLogger(__name__)


class _Failed(msgspec.Struct):
    """Why a worker could not start: the members of a `GatewayError`."""

    detail: str
    code: str
    exit_code: int


def endings(settings: Settings) -> set[signal.Signals]:
    """Signals that end the gateway, after its streams.

    SIGHUP is one of them unless it has certificates read again, or the gateway was started with
    `nohup` and is to outlive the terminal.
    """
    ends = {signal.SIGTERM, signal.SIGINT}
    if reloads(settings) or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return ends
    return ends | {signal.SIGHUP}


def reloads(settings: Settings) -> bool:
    """Whether SIGHUP has the gateway read its certificates again."""
    return bool(settings.server.tls.certificate)


Work = Callable[[Worker], Coroutine[Any, Any, None]]


def supervise(settings: Settings, work: Work) -> None:
    """Run `work` in `server.workers` processes until SIGTERM or SIGINT.

    Raises `GatewayError` if they cannot start, or did not end in time.
    """
    lock = claim_log(settings)
    # Listening already, so that `server.port` is refused if it is the same one.
    metrics = metrics_address(settings)
    metrics_sockets = metrics.listen() if metrics is not None else []
    address = SharedAddress(settings.server.host, settings.server.port)
    _Supervisor(settings, work, lock, address, metrics_sockets).run()


@dataclass(slots=True, eq=False)
class _Process:
    """The supervisor's record of a worker."""

    number: int
    sockets: list[socket.socket]
    pid: int = 0
    control: socket.socket | None = None
    said: bytes = b""
    ready_at: float | None = None
    failures: int = 0
    # Time of its restart.
    due: float | None = None

    @property
    def alive(self) -> bool:
        """Whether the worker runs, or will be started again."""
        return self.control is not None or self.due is not None

    def close_sockets(self) -> None:
        for sock in self.sockets:
            sock.close()
        self.sockets = []


class _Supervisor:
    def __init__(
        self,
        settings: Settings,
        work: Work,
        lock: WriterLock | None,
        address: SharedAddress,
        metrics_sockets: list[socket.socket],
    ) -> None:
        self._work = work
        self._lock = lock
        self._address = address
        # Kept open while worker 0 is away: nobody else can take its port.
        self._metrics_sockets = metrics_sockets
        self._drain_seconds = settings.server.drain_timeout
        workers = settings.server.workers
        self._metrics = Metrics(workers)
        self._processes = [_Process(number, address.bind()) for number in range(workers)]
        self._selector = selectors.DefaultSelector()
        self._greeted = False
        self._endings = endings(settings)
        self._reloads = reloads(settings)
        self._asked_to_stop = self._asked_to_reload = False
        self._stopping = False
        # Time when workers that still run are killed.
        self._deadline: float | None = None
        self._failure: GatewayError | None = None

    def run(self) -> None:
        name_worker(None)
        wake, waker = socket.socketpair()
        wake.setblocking(False)
        waker.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in self._endings:
            signal.signal(number, self._on_signal)
        if self._reloads:
            signal.signal(signal.SIGHUP, self._on_reload)
        self._selector.register(wake, selectors.EVENT_READ)
        # Present objects stay unchanged in every worker, so their memory is shared.
        gc.collect()
        gc.freeze()
        # The first worker makes what the others need: log, keys, pepper.
        self._start(self._processes[0])
        while any(process.alive for process in self._processes):
            for key, _ in self._selector.select(self._patience()):
                if key.data is None:
                    wake.recv(64)
                else:
                    self._hear(key.data)
            if self._asked_to_stop:
                self._stop()
            if self._asked_to_reload:
                self._reload()
            self._do_what_is_due()
        if self._failure is not None:
            raise self._failure

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._asked_to_stop = True

    def _on_reload(self, number: int, frame: FrameType | None) -> None:
        self._asked_to_reload = True

    def _reload(self) -> None:
        """Pass SIGHUP on; a worker that is starting reads the files anyway."""
        self._asked_to_reload = False
        for process in self._processes:
            if process.control is not None and process.ready_at:
                os.kill(process.pid, signal.SIGHUP)

    # Starting

    def _start(self, process: _Process) -> None:
        process.due = process.ready_at = None
        process.said = b""
        ours, theirs = socket.socketpair()
        # Blocked in the child until it has handlers of its own.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._endings)
        process.pid = os.fork()
        if process.pid == 0:
            ours.close()
            self._become_worker(process, theirs)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._endings)
        theirs.close()
        process.control = ours
        self._selector.register(ours, selectors.EVENT_READ, process)
        _LOGGER.info("worker %d is process %d", process.number, process.pid)

    def _become_worker(self, process: _Process, control: socket.socket) -> NoReturn:
        """In the child: release what belongs to other processes, work, and end."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            # Ctrl-C and the end of a terminal reach all its processes; the supervisor decides.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._endings)
            self._selector.close()
            for other in self._processes:
                if other is not process:
                    other.close_sockets()
                if other.control is not None:
                    other.control.close()
            if process.number:
                self._close_metrics_sockets()
            lock = self._lock
            if lock is not None and process.number:
                lock.release()
                lock = None
            self._metrics.begin(process.number)
            name_worker(process.number)
            greets = process.number == 0 and not self._greeted
            worker = Worker(
                process.number, process.sockets, control, lock, self._metrics, greets,
                self._metrics_sockets,
            )  # fmt: skip
            run_event_loop(self._work(worker))
            status = 0
        except GatewayError as error:
            failed = _Failed(error.detail, error.code, error.exit_code)
            control.send(msgspec.json.encode(failed) + b"\n")
        except BaseException:
            _LOGGER.critical("worker %d has failed", process.number, exc_info=True)
        finally:
            # Not `sys.exit`, which would unwind the supervisor's stack.
            sys.stdout.flush()
            logging.shutdown()
            os._exit(status)

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        for process in self._processes:
            if process.due is not None and process.due <= now:
                try:
                    process.sockets = process.sockets or self._address.bind()
                except GatewayError as error:
                    _LOGGER.error("worker %d: %s", process.number, error.detail)
                    process.due = now + _LONGEST_PAUSE
                else:
                    self._start(process)
        if self._deadline is not None and self._deadline <= now:
            self._kill()

    def _patience(self) -> float | None:
        moments = [*(process.due for process in self._processes), self._deadline]
        known = [moment for moment in moments if moment is not None]
        return max(0.0, min(known) - time.monotonic()) if known else None

    # Messages of workers

    def _hear(self, process: _Process) -> None:
        assert process.control is not None
        try:
            data = process.control.recv(65536)
        except ConnectionError:
            data = b""
        process.said += data
        if not data:
            self._ended(process)
        elif process.said == b"ready\n":
            self._ready(process)

    def _ready(self, process: _Process) -> None:
        process.ready_at = time.monotonic()
        if self._stopping:
            return
        for other in self._processes:
            if not other.pid:
                self._start(other)
        if not self._greeted and all(other.ready_at for other in self._processes):
            writer = self._processes[0].control
            assert writer is not None
            writer.send(b"all ready\n")
            self._greeted = True

    def _ended(self, process: _Process) -> None:
        assert process.control is not None
        self._selector.unregister(process.control)
        process.control.close()
        process.control = None
        self._metrics.end(process.number)
        status = os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        if self._stopping:
            return
        failed = self._why(process)
        if failed is not None:
            how = f"{'ended' if process.ready_at else 'could not start'}: {failed.detail}"
        if not self._greeted or (failed is not None and failed.exit_code not in _STARTED_AGAIN):
            # It would fail again: the settings or the environment are wrong.
            self._fail(failed or _Failed(f"worker {process.number} {how}", "worker_failed", 1))
            return
        lived = time.monotonic() - process.ready_at if process.ready_at else 0.0
        process.failures = 0 if lived >= _STABLE_SECONDS else process.failures + 1
        pause = 0.0
        if process.failures > 1:
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (process.failures - 2))
            # New connections go to the other workers meanwhile. Before a restart at once the
            # sockets stay: the next process serves their queue.
            process.close_sockets()
        _LOGGER.warning("worker %d (process %d) %s; starting it again in %.1f s",
                        process.number, process.pid, how, pause)  # fmt: skip
        process.due = time.monotonic() + pause

    @staticmethod
    def _why(process: _Process) -> _Failed | None:
        said = process.said.removeprefix(b"ready\n")
        return msgspec.json.decode(said, type=_Failed) if said.endswith(b"\n") else None

    # Ending

    def _fail(self, failed: _Failed) -> None:
        self._failure = GatewayError(failed.detail, code=failed.code)
        self._failure.exit_code = failed.exit_code
        self._stop()

    def _stop(self) -> None:
        """Drain every worker; take no more connections."""
        if self._stopping:
            return
        self._stopping = True
        self._deadline = time.monotonic() + self._drain_seconds + _END_SECONDS
        for process in self._processes:
            process.due = None
            process.close_sockets()
        self._close_metrics_sockets()
        for process in self._processes:
            if process.control is not None:
                process.control.shutdown(socket.SHUT_WR)

    def _close_metrics_sockets(self) -> None:
        for sock in self._metrics_sockets:
            sock.close()

    def _kill(self) -> None:
        late = [process for process in self._processes if process.control is not None]
        for process in late:
            os.kill(process.pid, signal.SIGKILL)
        self._deadline = None
        numbers = ", ".join(str(process.number) for process in late)
        self._failure = self._failure or GatewayError(
            f"killed workers that did not end in time: {numbers}", code="stop_too_slow"
        )
