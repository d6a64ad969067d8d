"""Supervised background tasks: all tasks of a gateway are started here.

An unexpected exception is a bug; it must neither stop a part of the gateway unnoticed nor leave it
looking ready. It is logged with its traceback and counted, and the work starts again after a pause.
A task that fails three times within a minute is given up: the gateway is no longer ready, ends its
streams with their cursors and then its process, for the service manager to restart.

Work that would fail again on the same input (one event, row or peer) has to handle it itself, since
all replicas get the same input.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from gateway.clock import Clock
from gateway.errors import InternalFailure
from gateway.tasks import Work, stop

MOST_FAILURES = 3
WINDOW_SECONDS = 60.0
# Seconds before the second and the third attempt, for failures that pass by themselves.
PAUSES = (0.25, 2.0)
# Errors of the machine, not of the program.
_USED_UP = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_LOGGER = logging.getLogger(__name__)


class Background:
    """The tasks of one process. Implements `gateway.tasks.Tasks`."""

    def __init__(self, clock: Clock) -> None:
        self.failure: InternalFailure | None = None
        self._failure_listeners: list[Callable[[], None]] = []
        self._clock = clock
        self._errors: dict[str, int] = {}
        self._used_up_told = float("-inf")
        # Strong references: the event loop holds its tasks weakly.
        self._running: set[asyncio.Task[None]] = set()

    def on_failure(self, listener: Callable[[], None]) -> None:
        """Call `listener` once, when a task is given up; at once if one was."""
        self._failure_listeners.append(listener)
        if self.failure is not None:
            listener()

    @property
    def errors(self) -> Mapping[str, int]:
        return self._errors

    def keep(
        self, name: str, work: Work, on_given_up: Callable[[], None] | None = None
    ) -> asyncio.Task[None]:
        return self._start(name, self._keep(name, work, on_given_up))

    def run(self, name: str, work: Work) -> asyncio.Task[None]:
        return self._start(name, self._once(name, work))

    async def close(self) -> None:
        await stop(self._running)

    def report(self, name: str, error: BaseException) -> None:
        """Log and count an unexpected exception."""
        self._errors[name] = self._errors.get(name, 0) + 1
        _LOGGER.critical("internal error in the task %s", name, exc_info=error)

    def report_callback(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Report a failed callback: the exception handler of an event loop."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _USED_UP:
            self._report_used_up(error)
            return
        self._errors["callback"] = self._errors.get("callback", 0) + 1
        loop.default_exception_handler(context)

    def _report_used_up(self, error: OSError) -> None:
        """Log at most once per window: the loop retries, and fails, several times a second."""
        now = self._clock.monotonic()
        if now >= self._used_up_told + WINDOW_SECONDS:
            self._used_up_told = now
            _LOGGER.error(
                "connections cannot be taken: %s; raise the limit of descriptors (ulimit -n), or "
                "lower server.max_connections", error.strerror,
            )  # fmt: skip

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._errors.setdefault(name, 0)
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _once(self, name: str, work: Work) -> None:
        try:
            await work()
        except BaseException as error:
            if not _is_unexpected(error):
                raise
            self.report(name, error)

    async def _keep(self, name: str, work: Work, on_given_up: Callable[[], None] | None) -> None:
        failures: deque[float] = deque(maxlen=MOST_FAILURES)
        while True:
            try:
                return await work()
            except BaseException as error:
                if not _is_unexpected(error):
                    raise
                self.report(name, error)
            now = self._clock.monotonic()
            failures.append(now)
            recent = sum(now - at < WINDOW_SECONDS for at in failures)
            if recent == MOST_FAILURES:
                self._give_up(name)
                if on_given_up is not None:
                    on_given_up()
                return
            await self._clock.sleep(PAUSES[recent - 1])

    def _give_up(self, name: str) -> None:
        if self.failure is not None:
            return
        self.failure = InternalFailure(
            f"internal error: the task {name} failed {MOST_FAILURES} times within "
            f"{WINDOW_SECONDS:.0f} s (see the log); the gateway ends, to be started again"
        )
        _LOGGER.critical("%s", self.failure.detail)
        for listener in self._failure_listeners:
            listener()


def _is_unexpected(error: BaseException) -> bool:
    """Whether the work failed, rather than being cancelled or ended with the program.

    A `CancelledError` that nobody requested comes from something that the work waited for.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return isinstance(error, Exception)
