"""Writer of the log: groups the batches of concurrent requests into one durable append.

While one append is on its way to disk, requests queue up; the next append takes
them all. A sync to disk thus adds to the latency of each request, but does not
limit throughput. The queue is bounded in events and bytes: beyond that,
requests are refused with `Retry-After`, so that memory stays bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.errors import GatewayError, Unavailable
from gateway.event import Draft
from gateway.histogram import Histogram
from gateway.log.ports import Appended, Log
from gateway.tracing.spans import within

# Most events of one append, so that its latency stays bounded.
_GROUP_EVENTS = 5_000
_GROUP_BYTES = 16 << 20
# Events of a group that waits for no others.
_ENOUGH_EVENTS = 64
_SMALL_BYTES = 16 << 10


class Completion(Protocol):
    """Who waits for batches to be stored; a future is one."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, result: list[Appended], /) -> None:
        """All are durable: what became of each."""

    def set_exception(self, exception: BaseException, /) -> None:
        """They were not stored, or it is not known whether they were."""


class _Waiting:
    """Batches that are stored together or not at all."""

    __slots__ = ("batches", "done", "events", "size", "small")

    def __init__(self, batches: Sequence[Sequence[Draft]], done: Completion) -> None:
        self.batches = batches
        self.done = done
        self.events = sum(map(len, batches))
        self.size = sum([len(draft.tail) for batch in batches for draft in batch])
        self.small = int(self.size <= _SMALL_BYTES)


class Writer:
    """Writer of one log, and the only way into it. Run `run()` as a task; `close()` drains it."""

    def __init__(
        self,
        log: Log,
        *,
        queue_events: int,
        queue_bytes: int,
        report: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        """`report` is called with unexpected errors, which the waiting requests get as well; the
        writer goes on."""
        # Number of events that were stored under another id than they were sent with.
        self.conflicts = 0
        self.commit_seconds = Histogram()
        self._log = log
        self._report = report
        self._store_listeners: list[Callable[[], None]] = []
        self._queue_events = queue_events
        self._queue_bytes = queue_bytes
        self._waiting: list[_Waiting] = []
        self._events = 0
        self._bytes = 0
        self._small = 0
        self._work = asyncio.Event()
        # Whether the last group was of several requests.
        self._shared = False
        self._closed = False

    def on_store(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each append."""
        self._store_listeners.append(listener)

    @property
    def has_small(self) -> bool:
        """Whether a batch that was decoded in one slice waits to be stored."""
        return self._small > 0

    @property
    def busy(self) -> bool:
        """Whether batches wait to be stored, or are being stored."""
        return self._events > 0

    async def append(self, batch: Sequence[Draft]) -> Appended:
        """Store a batch; returns when it is durable.

        Raises `Unavailable` when the queue is full, or as `Log.append` does. A
        request that is cancelled while it waits may still be stored.
        """
        return (await self.append_together([batch]))[0]

    async def append_together(self, batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        """Store several batches, either all or none; returns when they are durable."""
        stored: asyncio.Future[list[Appended]] = asyncio.get_running_loop().create_future()
        with within("append"):
            self.put(batches, stored)
            return await stored

    def put(self, batches: Sequence[Sequence[Draft]], done: Completion) -> None:
        """Queue batches, and tell `done` what became of them. Raises as `append` does."""
        if self._closed:
            raise Unavailable("the gateway is stopping", code="stopping", retry_after=2)
        waiting = _Waiting(batches, done)
        # Batches larger than the whole queue are accepted when it is empty.
        full = (
            self._events + waiting.events > self._queue_events
            or self._bytes + waiting.size > self._queue_bytes
        )
        if self._waiting and full:
            raise Unavailable(
                "the write queue is full; send again after the pause in Retry-After",
                code="write_queue_full",
                retry_after=1,
            )
        self._waiting.append(waiting)
        self._events += waiting.events
        self._bytes += waiting.size
        self._small += waiting.small
        self._work.set()

    async def run(self) -> None:
        """Append the waiting batches until the writer is closed and its queue empty."""
        while self._waiting or not self._closed:
            if not self._waiting:
                self._work.clear()
                await self._work.wait()
                continue
            await self._gather()
            if self._waiting:
                await self._append_group(self._take_group())

    async def _gather(self) -> None:
        """Let requests join that have arrived already: a commit costs as much as some events.

        A request that comes alone, as the one before it, goes on at once.
        """
        before = 0
        while self._shared and before < self._events < _ENOUGH_EVENTS:
            before = self._events
            # What arrives in a round of the loop is taken behind this task, in its second turn.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def abandon(self) -> None:
        """Refuse new batches and those that wait, since nothing can store them any more."""
        self.close()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            self._events -= one.events
            self._bytes -= one.size
            self._small -= one.small
            if not one.done.done():
                one.done.set_exception(
                    Unavailable("the gateway is stopping", code="stopping", retry_after=2)
                )

    def close(self) -> None:
        """Refuse new batches; `run` returns when the waiting ones are stored."""
        self._closed = True
        self._work.set()

    def _take_group(self) -> list[_Waiting]:
        count = events = size = 0
        for waiting in self._waiting:
            events += waiting.events
            size += waiting.size
            if count and (events > _GROUP_EVENTS or size > _GROUP_BYTES):
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        self._shared = count > 1
        return group

    async def _append_group(self, group: list[_Waiting]) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            results = await self._log.append([one for waiting in group for one in waiting.batches])
        except BaseException as error:
            # Waiting requests must get any error, and later ones must not wait for ever.
            told = error if isinstance(error, Exception) else _interrupted()
            if isinstance(error, Exception) and not isinstance(error, GatewayError):
                self._report(error)
            for waiting in group:
                if not waiting.done.done():
                    waiting.done.set_exception(told)
            if told is not error:
                raise
        else:
            self.commit_seconds.observe(clock() - began)
            self.conflicts += sum(appended.conflicts for appended in results)
            at = 0
            for waiting in group:
                end = at + len(waiting.batches)
                if not waiting.done.done():
                    waiting.done.set_result(results[at:end])
                at = end
            for listener in self._store_listeners:
                listener()
        finally:
            for waiting in group:
                self._events -= waiting.events
                self._bytes -= waiting.size
                self._small -= waiting.small


def _interrupted() -> Unavailable:
    return Unavailable(
        "storing the events was interrupted; it is not known whether they were stored: send them "
        "again with the same ids, then what is there counts as duplicates",
        code="outcome_unknown",
        retry_after=1,
    )
