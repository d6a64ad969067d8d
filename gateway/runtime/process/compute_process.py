"""A process for long computations: decoding large events, evaluating costly filters.

A computing thread holds the interpreter for as long as one call into C lasts, and the event loop
competes for it after each of its system calls: under attack an event waited twenty times, for
milliseconds each. Work is pickled and pure: a function at the top of a module, and its arguments.
It may run twice: if the process ended or cannot be started, the calling thread does the work.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from gateway.settings.sources import PREFIX

Result = TypeVar("Result")

_LENGTH_BYTES = 8
# Longer calls are given up: normal ones take milliseconds.
_PATIENCE_SECONDS = 10.0
# Time without the process after it has failed.
_PAUSE_SECONDS = 60.0
# Lowest priority among the processes of the gateway.
_NICENESS = 5
_LOGGER = logging.getLogger(__name__)


class ComputeProcess:
    """Calls functions in another process, one at a time; starts it at the first call.

    For threads: a call blocks until its result is there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._not_before = 0.0

    def __enter__(self) -> ComputeProcess:
        return self

    def __exit__(self, *raised: object) -> None:
        self._not_before = float("inf")
        # A caller that waits for it stops waiting.
        if (child := self._child) is not None:
            child.process.kill()
        with self._lock:
            self._end()

    def __call__(self, work: Callable[[], Result]) -> Result:
        """Result or exception of `work`, run in the process."""
        request = pickle.dumps(work)
        with self._lock:
            if self._child is None and time.monotonic() < self._not_before:
                return work()
            try:
                if self._child is None:
                    self._child = _Child()
                returned, result = self._child.ask(request)
            except (OSError, EOFError) as error:
                self._end()
                if self._not_before < float("inf"):
                    self._not_before = time.monotonic() + _PAUSE_SECONDS
                    _LOGGER.warning("the compute process has failed (%r), going on without", error)
                return work()
        if not returned:
            raise result
        done: Result = result
        return done

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


class _Child:
    """The process and its connection. Raises `OSError` if it cannot be started."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair()
        self._connection.settimeout(_PATIENCE_SECONDS)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                # Ctrl-C is for the gateway, which ends the process.
                process_group=0,
            )
        except OSError:
            self._connection.close()
            raise
        finally:
            theirs.close()

    def ask(self, request: bytes) -> tuple[bool, Any]:
        """Whether a pickled function returned, and its result or exception."""
        _send(self._connection, request)
        answer = _receive(self._connection)
        if answer is None:
            raise EOFError("it has ended")
        # Safe: it comes from this program's own code.
        found: tuple[bool, Any] = pickle.loads(answer)
        return found

    def end(self) -> None:
        self._connection.close()
        self.process.kill()
        self.process.wait()


def _send(connection: socket.socket, message: bytes) -> None:
    connection.sendall(len(message).to_bytes(_LENGTH_BYTES, "big"))
    connection.sendall(message)


def _receive(connection: socket.socket) -> bytes | None:
    """The next message; None at the end of the connection."""
    length = _receive_bytes(connection, _LENGTH_BYTES)
    return None if length is None else _receive_bytes(connection, int.from_bytes(length, "big"))


def _receive_bytes(connection: socket.socket, count: int) -> bytes | None:
    received = bytearray(count)
    left = memoryview(received)
    while left:
        size = connection.recv_into(left)
        if not size:
            return None
        left = left[size:]
    return bytes(received)


def _serve(connection: socket.socket) -> None:
    """Serve pickled functions until the gateway is gone."""
    while (request := _receive(connection)) is not None:
        answer: tuple[bool, Any]
        try:
            answer = True, pickle.loads(request)()
        except Exception as error:
            answer = False, error
        _send(connection, pickle.dumps(answer))


if __name__ == "__main__":
    # The system may refuse either.
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
        if sys.platform == "linux":
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with contextlib.suppress(ConnectionError):
        _serve(socket.socket(fileno=0))
