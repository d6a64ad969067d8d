"""Slices of long work on the event loop, and limits on the filters of each key.

Pages, replays and reviews examine thousands of events for one key. Each works for a slice of a few
milliseconds and then waits for its turn: the next slice begins when nothing else is ready, or after
a pause. So other work waits for one slice now and then, however many tasks there are. Keys take
turns, however much each has requested.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

import msgspec

from gateway.budgets import FILTERS, STEPS_PER_SECOND, WORK, FilterBudget, WorkBudget
from gateway.clock import Clock
from gateway.filters.expression import FilterCost

_MOST_BUCKETS = 10_000
Item = TypeVar("Item")
Result = TypeVar("Result")


class FilterBucket:
    """Token bucket of the steps that the filters of one key may take. Pure."""

    __slots__ = ("_burst", "_left", "_rate", "_seen_at")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._seen_at = now

    def charge(self, steps: float, now: float) -> None:
        """Take steps, into debt if too few are left: the work is already done."""
        self._save(now)
        self._left -= steps

    def wait(self, now: float) -> float:
        """Seconds until steps may be taken again; 0.0 if they may be now."""
        self._save(now)
        return 0.0 if self._left > 0 or not self._rate else (1 - self._left) / self._rate

    def is_full(self, now: float) -> bool:
        """Whether the bucket is full, like a new one."""
        self._save(now)
        return self._left >= self._burst

    def _save(self, now: float) -> None:
        self._left = min(self._burst, self._left + (now - self._seen_at) * self._rate)
        self._seen_at = now


class WorkTotals(msgspec.Struct):
    """Counters since the start, for metrics."""

    steps: int = 0
    exceeded: int = 0
    left_live: int = 0
    refused: int = 0


class Slot:
    """Exclusive slot for slices, shared by all whose slices exclude each other.

    `ended`: end of the last slice; `pause`: seconds for other work before the next one.
    """

    __slots__ = ("_asking", "_taken", "ended", "pause")

    def __init__(self) -> None:
        self.ended = self.pause = 0.0
        self._taken = False
        self._asking: deque[Callable[[], None]] = deque()

    def take(self, again: Callable[[], None]) -> bool:
        """Whether a slice may begin; if not, a later `leave` returns `again`."""
        if self._taken:
            self._asking.append(again)
            return False
        self._taken = True
        return True

    def leave(self) -> Callable[[], None] | None:
        """End the slice; return the callback that asked for the next one, if any."""
        self._taken = False
        return self._asking.popleft() if self._asking else None


class LoopWork:
    """Turns of keys with slices to do, and their filter buckets.

    `share`: part of a processor for the filters of one key, 0.0 for no limit. `busy`: whether more
    urgent work is waiting. `when_idle` calls a function when the event loop is idle, or after so
    many seconds at the latest. `in_process` runs work in another process; the default does not.
    """

    def __init__(
        self,
        clock: Clock,
        share: float = 0.0,
        *,
        busy: Callable[[], bool] = lambda: False,
        when_idle: Callable[[Callable[[], None], float], None] | None = None,
        threads: Executor | None = None,
        in_process: Callable[[Callable[[], Any]], Any] = lambda work: work(),
        slot: Slot | None = None,
        timer: Callable[[], float] = time.perf_counter,
        budget: WorkBudget = WORK,
        filters: FilterBudget = FILTERS,
    ) -> None:
        self.totals = WorkTotals()
        self.filters = filters
        self.timer = timer
        self.budget = budget
        self._clock = clock
        self._rate = share * STEPS_PER_SECOND
        self._busy = busy
        self._when_idle = when_idle or _soon
        self._threads = threads
        self._do_in_process = in_process
        self._buckets: dict[str, FilterBucket] = {}
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._taken = False
        self._slot = slot or Slot()
        self._began = 0.0
        # Whether a slice has begun, and whether a thread works on it.
        self._running = self._away = False

    def slices(self, key_id: str) -> Slices:
        """Slices of one task of a key."""
        return Slices(self, key_id)

    async def turn(self, key_id: str) -> None:
        """Wait until this key may begin a slice."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._taken = True
            if self._slot.take(self._next):
                self._running = True
                # The rest of this round is not part of the slice.
                self._began = math.inf
                loop.call_soon(self._end)
                return
        waits = loop.create_future()
        queue = self._waiting.get(key_id)
        if queue is None:
            queue = self._waiting[key_id] = deque()
        queue.append(waits)
        await waits

    async def lull(self, within: float) -> None:
        """Return when the event loop is idle, or after so many seconds at the latest; if more
        urgent work is under way, after the pause for that. For short work that has time and takes
        no turns: of many who wait, one goes on in a round."""
        if self._busy():
            await asyncio.sleep(self.budget.pause_seconds)
        idle = asyncio.get_running_loop().create_future()
        self._when_idle(lambda: None if idle.done() else idle.set_result(None), within)
        await idle

    async def in_thread(self, key_id: str, work: Callable[[], Result]) -> Result:
        """Do uninterruptible work on a thread, in a turn of the key, as the only slice."""
        await self.turn(key_id)
        self._away, self._began = True, self.timer()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._away = False
            self._end()

    def in_process(self, key_id: str, work: Callable[[], Result]) -> Awaitable[Result]:
        """Do work in another process, if there is one: a picklable call of a function at the top of
        a module, which only computes."""
        return self.in_thread(key_id, partial(self._do_in_process, work))

    def _end(self) -> None:
        if self._away or not self._running:
            return
        self._running = False
        slot = self._slot
        slot.ended = self.timer()
        # Slices that took too long are spaced further apart.
        took = slot.ended - self._began
        slot.pause = max(self.budget.pause_seconds, took * self.budget.pauses_per_slice)
        self._leave()
        self._when_idle(self._next, slot.pause)

    def _leave(self) -> None:
        other = self._slot.leave()
        if other is not None:
            self._when_idle(other, self._slot.pause)

    def _next(self) -> None:
        if self._waiting and self._busy():
            left = self._slot.ended + self._slot.pause - self.timer()
            if left > 0:
                asyncio.get_running_loop().call_later(left, self._grant)
                return
        self._grant()

    def _grant(self) -> None:
        if self._waiting and not self._slot.take(self._grant):
            return
        while self._waiting:
            key_id, queue = self._waiting.popitem(last=False)
            waits = queue.popleft()
            if queue:
                self._waiting[key_id] = queue
            if not waits.done():
                # The slice begins in the next round, followed by `_end`.
                self._began, self._running = self.timer(), True
                waits.set_result(None)
                asyncio.get_running_loop().call_soon(self._end)
                return
            if not self._waiting:
                self._leave()
        self._taken = False

    # Filter buckets

    def charge(self, key_id: str, cost: FilterCost, part: int = 1) -> None:
        """Charge a key for one of `part` equal parts of the steps beyond the free ones."""
        steps = cost.steps - cost.events * self.filters.free_steps
        if steps > 0 and self._rate:
            now = self._clock.monotonic()
            self._bucket(key_id, now).charge(steps / part, now)

    def wait(self, key_id: str) -> float:
        """Seconds until the filters of a key may take steps again; 0.0 if they may now."""
        bucket = self._buckets.get(key_id)
        return 0.0 if bucket is None else bucket.wait(self._clock.monotonic())

    def count(self, cost: FilterCost) -> None:
        """Count evaluations, for the metrics."""
        self.totals.steps += cost.steps
        self.totals.exceeded += cost.exceeded

    def _bucket(self, key_id: str, now: float) -> FilterBucket:
        bucket = self._buckets.get(key_id)
        if bucket is None:
            if len(self._buckets) >= _MOST_BUCKETS:
                self._buckets = {
                    name: one for name, one in self._buckets.items() if not one.is_full(now)
                }
            burst = self._rate * self.filters.burst_seconds
            bucket = self._buckets[key_id] = FilterBucket(self._rate, burst, now)
        return bucket


def _soon(call: Callable[[], None], within: float) -> None:
    asyncio.get_running_loop().call_soon(call)


class Stretch:
    """Urgent work that takes no turns, but yields every few milliseconds."""

    __slots__ = ("_ends", "_seconds", "_timer")

    def __init__(
        self, timer: Callable[[], float] = time.perf_counter, budget: WorkBudget = WORK
    ) -> None:
        self._timer = timer
        self._seconds = budget.slice_seconds
        self._ends = timer() + self._seconds

    async def rest(self) -> None:
        """Yield if the stretch has taken long enough."""
        if self._timer() >= self._ends:
            await asyncio.sleep(0)
            self._ends = self._timer() + self._seconds


class Slices:
    """Slices of one task of a key: `begin`, and `next` whenever `over`."""

    __slots__ = ("_ends", "_key_id", "_seconds", "_timer", "_work")

    def __init__(self, work: LoopWork, key_id: str) -> None:
        self._work = work
        self._key_id = key_id
        self._timer = work.timer
        self._seconds = work.budget.slice_seconds
        self._ends = 0.0

    def start(self) -> None:
        """Begin without a turn, for a moment: short work does not have to wait."""
        self._ends = self._timer() + self._work.budget.free_seconds

    async def begin(self) -> None:
        """Wait for the turn of the next slice."""
        await self._work.turn(self._key_id)
        self._ends = self._timer() + self._seconds

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """Do work on a thread, in a slice of its own."""
        done = await self._work.in_thread(self._key_id, work)
        self.start()
        return done

    async def in_process(self, work: Callable[[], Result]) -> Result:
        """Do work in another process, in a slice of its own."""
        done = await self._work.in_process(self._key_id, work)
        self.start()
        return done

    next = begin

    async def rest(self) -> None:
        """Wait for the next turn if the slice has taken long enough, or none has begun."""
        if self.over():
            await self.begin()

    async def run(self, steps: Generator[None, None, Result]) -> Result:
        """Run the steps of a generator in as many slices as needed; return its result."""
        while True:
            await self.rest()
            try:
                next(steps)
            except StopIteration as done:
                result: Result = done.value
                return result

    async def each(self, items: Iterable[Item]) -> AsyncIterator[Item]:
        """Yield the items, with a `rest` before each."""
        for item in items:
            await self.rest()
            yield item

    def over(self) -> bool:
        """Whether the slice has taken long enough."""
        return self._timer() >= self._ends
