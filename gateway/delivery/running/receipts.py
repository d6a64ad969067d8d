"""Batches that were sent and are not confirmed: they are asked for beside what is sent next.

The receiver is asked for the oldest, so positions move in order. Nothing waits for an answer but
what would be one unconfirmed batch too many, and the end of the session.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.delivery.outlets.outlet import DeliveryResult, DeliveryVerdict, Outlet
from gateway.delivery.running.encoded_batch import SentEvents
from gateway.notifier import Notifier
from gateway.tasks import Tasks

_LONGEST_WAIT = 3600.0


class Unconfirmed:
    """Events that were sent, and what to ask whether the receiver has them. They themselves are
    read again if it has not. `offset` is how far the position moves then; None if it does not."""

    def __init__(self, receipt: object, sent: SentEvents) -> None:
        self.receipt = receipt
        self.sent = sent
        self.offset: int | None = None


class Receipts:
    """Unconfirmed batches of one session, oldest first. `failure` is the verdict of the first that
    is not confirmed: it and all behind it are to be sent again."""

    def __init__(
        self,
        outlet: Outlet,
        tasks: Tasks,
        confirmed: Callable[[Unconfirmed], None],
        wake: Callable[[], None],
    ) -> None:
        """`wake` is called whenever the `state` is another."""
        self.failure: DeliveryVerdict | None = None
        self._outlet, self._tasks, self._confirmed = outlet, tasks, confirmed
        self._wake = wake
        self._waiting: deque[Unconfirmed] = deque()
        self._moved = Notifier()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def state(self) -> tuple[int, bool]:
        """Number of unconfirmed batches, and whether one of them has failed."""
        return len(self._waiting), self.failure is not None

    @property
    def events(self) -> int:
        """Number of events that are not confirmed."""
        return sum(one.sent.events for one in self._waiting)

    @property
    def newest(self) -> Unconfirmed | None:
        return self._waiting[-1] if self._waiting else None

    def add(self, one: Unconfirmed) -> None:
        """Have a batch confirmed when all before it are."""
        self._waiting.append(one)
        if self._task is None or self._task.done():
            self._task = self._tasks.run("destination", self._ask)

    async def down_to(self, most: int) -> DeliveryVerdict | None:
        """Wait until at most so many are left; the failure if one is not confirmed."""
        await self._moved.until(
            lambda: self.failure is not None or len(self._waiting) <= most, _LONGEST_WAIT
        )
        return self.failure

    async def close(self) -> None:
        """Ask no more."""
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])

    async def _ask(self) -> None:
        try:
            while self._waiting and self.failure is None:
                oldest = self._waiting[0]
                verdict = await self._outlet.confirm(oldest.receipt)
                if verdict.result is not DeliveryResult.SUCCESS:
                    self.failure = verdict
                    break
                self._waiting.popleft()
                self._confirmed(oldest)
                self._tell()
        except Exception:
            # It is reported where tasks are run.
            self.failure = DeliveryVerdict(DeliveryResult.TRANSIENT, kind="internal")
            raise
        finally:
            self._tell()

    def _tell(self) -> None:
        self._moved.notify()
        self._wake()
