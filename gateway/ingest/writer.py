"""The writer: groups the batches of concurrent requests into one durable append.

While one append is on its way to disk, requests queue up; the next append takes
them all. So a sync to disk costs each request its latency, and the gateway's
throughput nothing. The queue is bounded in events and bytes: beyond that,
requests are refused with `Retry-After` instead of growing the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.errors import GatewayError, Unavailable
from gateway.event import Draft
from gateway.store.ports import Appended, Log

# One append takes no more than this, so that its latency stays bounded.
_GROUP_EVENTS = 5_000


class _Waiting:
    __slots__ = ("batch", "done", "size")

    def __init__(self, batch: Sequence[Draft], done: asyncio.Future[Appended]) -> None:
        self.batch = batch
        self.done = done
        self.size = sum(len(draft.tail) for draft in batch)


class Writer:
    """The only way into the log. Run `run()` as a task; `close()` drains it."""

    def __init__(self, log: Log, *, queue_events: int, queue_bytes: int) -> None:
        self._log = log
        self._queue_events = queue_events
        self._queue_bytes = queue_bytes
        self._waiting: list[_Waiting] = []
        self._events = 0
        self._bytes = 0
        self._work = asyncio.Event()
        self._closed = False

    async def append(self, batch: Sequence[Draft]) -> Appended:
        """Store a batch; returns when it is durable.

        Raises `Unavailable` when the queue is full or nothing was stored. A
        request that is cancelled while it waits may still be stored.
        """
        if self._closed:
            raise Unavailable("the gateway is stopping", code="stopping", retry_after=2)
        waiting = _Waiting(batch, asyncio.get_running_loop().create_future())
        # A batch that is larger than the whole queue is let in when it is alone.
        full = (
            self._events + len(batch) > self._queue_events
            or self._bytes + waiting.size > self._queue_bytes
        )
        if self._waiting and full:
            raise Unavailable(
                "the write queue is full; send again after the pause in Retry-After",
                code="write_queue_full",
                retry_after=1,
            )
        self._waiting.append(waiting)
        self._events += len(batch)
        self._bytes += waiting.size
        self._work.set()
        return await waiting.done

    async def run(self) -> None:
        """Append what is waiting, until closed and empty."""
        while self._waiting or not self._closed:
            if not self._waiting:
                self._work.clear()
                await self._work.wait()
                continue
            await self._append_group(self._take_group())

    def close(self) -> None:
        """Refuse new batches; `run` returns when the waiting ones are stored."""
        self._closed = True
        self._work.set()

    def _take_group(self) -> list[_Waiting]:
        count = events = 0
        for waiting in self._waiting:
            if count and events + len(waiting.batch) > _GROUP_EVENTS:
                break
            count += 1
            events += len(waiting.batch)
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _append_group(self, group: list[_Waiting]) -> None:
        try:
            results = await self._log.append([waiting.batch for waiting in group])
        except GatewayError as error:
            for waiting in group:
                if not waiting.done.done():
                    waiting.done.set_exception(error)
        else:
            for waiting, result in zip(group, results, strict=True):
                if not waiting.done.done():
                    waiting.done.set_result(result)
        finally:
            for waiting in group:
                self._events -= len(waiting.batch)
                self._bytes -= waiting.size
