"""Port for starting background work.

`gateway.runtime.background` supervises the tasks of a gateway. Commands, which end with a failure,
and embedded parts start them without supervision.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

from gateway.errors import GatewayError, InternalFailure

Work = Callable[[], Coroutine[Any, Any, None]]
_LOGGER = logging.getLogger(__name__)


class Tasks(Protocol):
    """Starter of the background work of one process."""

    def keep(
        self, name: str, work: Work, on_given_up: Callable[[], None] | None = None
    ) -> asyncio.Task[None]:
        """Run endless work until its task is cancelled; restart it when it fails.

        `work` is called for each start, so its state has to be outside of it. `on_given_up` is
        called when it has failed so often that the process has to end.
        """

    def run(self, name: str, work: Work) -> asyncio.Task[None]:
        """Run work that ends by itself. A failure is reported, and not retried."""

    def report(self, name: str, error: BaseException) -> None:
        """Log and count an unexpected exception that ends no task."""

    @property
    def errors(self) -> Mapping[str, int]:
        """Number of unexpected failures since the start, by name of the work."""

    @property
    def failure(self) -> InternalFailure | None:
        """Why this process has to be restarted; None if it need not."""


class PlainTasks:
    """`Tasks` without supervision: a failure is logged and ends the work."""

    failure: InternalFailure | None = None

    def __init__(self) -> None:
        # Strong references: the event loop holds its tasks weakly.
        self._held: set[asyncio.Task[None]] = set()

    @property
    def errors(self) -> Mapping[str, int]:
        return {}

    def keep(
        self, name: str, work: Work, on_given_up: Callable[[], None] | None = None
    ) -> asyncio.Task[None]:
        return self.run(name, work)

    def run(self, name: str, work: Work) -> asyncio.Task[None]:
        task = asyncio.create_task(work(), name=name)
        self._held.add(task)
        task.add_done_callback(self._over)
        return task

    def report(self, name: str, error: BaseException) -> None:
        _LOGGER.critical("internal error in the task %s", name, exc_info=error)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._held.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _LOGGER.critical("the task %s has failed", task.get_name(), exc_info=task.exception())


PLAIN = PlainTasks()


async def stop(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their end."""
    stopping = list(tasks)
    for task in stopping:
        task.cancel()
    await asyncio.gather(*stopping, return_exceptions=True)


def threads_unavailable(error: RuntimeError) -> GatewayError:
    """Error if no thread can be started."""
    return GatewayError(
        f"cannot start the threads of the gateway ({error}): raise the limit of processes and "
        "threads (ulimit -u, TasksMax of systemd, the pids limit of the container)",
        code="no_threads",
    )
