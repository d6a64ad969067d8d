"""Slices of work begin when nothing else is ready, and leave others time in proportion."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from gateway.access.policy.decision import View
from gateway.budgets import FilterBudget, WorkBudget
from gateway.event import Event
from gateway.filters.cel.values import BUDGET
from gateway.filters.expression import FilterCost, Undecided, compile_filter
from gateway.filters.scope import Scope
from gateway.scheduling.loop_work import LoopWork, Slot
from gateway.streaming.event_selector import EventSelector
from gateway.streaming.live.interest import StreamQuery
from tests.support.machine_time import eventually

if TYPE_CHECKING:
    from tests.conftest import FakeClock

MakeEvent = Callable[..., Event]
NESTED = "data.l.exists(a, data.l.exists(b, a + b == 18.0))"


class Idle:
    """Whoever waits for an idle loop: the calls, and how long they would wait at most."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.within: list[float] = []

    def __call__(self, call: Callable[[], None], within: float) -> None:
        self.calls.append(call)
        self.within.append(within)

    async def comes(self) -> None:
        await rounds()
        calls, self.calls = self.calls, []
        for call in calls:
            call()
        await rounds()

    async def comes_for_one(self) -> None:
        self.calls.pop(0)()
        await rounds()


async def rounds() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@contextmanager
def going_on(event: threading.Event) -> Iterator[None]:
    """Let threads that wait for the event end, whatever the test finds."""
    try:
        yield
    finally:
        event.set()


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def idle() -> Idle:
    return Idle()


@pytest.fixture
def time() -> Time:
    return Time()


def work_of(clock: FakeClock, idle: Idle, time: Time, **options: object) -> LoopWork:
    return LoopWork(clock, when_idle=idle, timer=time, **options)  # type: ignore[arg-type]


async def test_the_next_slice_waits_until_nothing_else_is_ready(
    clock: FakeClock, idle: Idle, time: Time
) -> None:
    work = work_of(clock, idle, time)
    await work.turn("a")
    waiting = asyncio.create_task(work.turn("b"))
    await rounds()
    assert not waiting.done()
    await idle.comes()
    assert waiting.done()
    assert idle.within[0] == work.budget.pause_seconds


async def test_a_long_slice_is_followed_by_a_longer_pause(
    clock: FakeClock, idle: Idle, time: Time
) -> None:
    work = work_of(clock, idle, time)
    await work.turn("a")

    async def long() -> None:
        await work.turn("b")
        time.now += 1.0

    waiting = asyncio.create_task(long())
    await rounds()
    await idle.comes()
    assert waiting.done()
    assert idle.within[-1] == pytest.approx(work.budget.pauses_per_slice)


async def test_what_has_time_waits_for_an_idle_loop_one_after_the_other(
    clock: FakeClock, idle: Idle, time: Time
) -> None:
    work = work_of(clock, idle, time)
    waiting = [asyncio.create_task(work.lull(0.02)) for _ in range(2)]
    await rounds()
    assert idle.within == [0.02, 0.02]
    assert [one.done() for one in waiting] == [False, False]
    await idle.comes_for_one()
    assert [one.done() for one in waiting] == [True, False]
    waiting[1].cancel()
    await rounds()
    # Nothing is left to go on.
    await idle.comes_for_one()


async def test_what_has_time_lets_events_on_their_way_pass_before_it_waits_for_an_idle_loop(
    clock: FakeClock, idle: Idle, time: Time
) -> None:
    budget = WorkBudget(pause_seconds=0.001)
    work = work_of(clock, idle, time, busy=lambda: True, budget=budget)
    waiting = asyncio.create_task(work.lull(0.02))
    await rounds()
    assert not idle.calls
    await eventually(lambda: bool(idle.calls), "it waits no longer than for the pause")
    await idle.comes()
    assert waiting.done()


async def test_nobody_has_a_slice_while_a_thread_is_at_one(
    clock: FakeClock, idle: Idle, time: Time
) -> None:
    go_on = threading.Event()
    with ThreadPoolExecutor(2) as threads, going_on(go_on):
        work = work_of(clock, idle, time, threads=threads)
        away = asyncio.create_task(work.in_thread("a", go_on.wait))
        waiting = asyncio.create_task(work.in_thread("b", lambda: None))
        await idle.comes()
        assert not waiting.done()
        assert not idle.within
        go_on.set()
        assert await away
        await idle.comes()
        await waiting


async def test_a_slice_that_is_cancelled_on_its_way_to_a_thread_ends_once(
    clock: FakeClock, idle: Idle, time: Time
) -> None:
    work = work_of(clock, idle, time)
    gone = asyncio.create_task(work.in_thread("a", lambda: None))
    asyncio.get_running_loop().call_soon(gone.cancel)
    await rounds()
    await asyncio.wait({gone})
    await rounds()
    assert len(idle.calls) == 1


async def test_two_that_share_a_slot_have_one_slice_at_a_time(
    clock: FakeClock, idle: Idle, time: Time
) -> None:
    slot, go_on, order = Slot(), threading.Event(), []
    with ThreadPoolExecutor(2) as threads, going_on(go_on):
        one = work_of(clock, idle, time, threads=threads, slot=slot)
        other = work_of(clock, idle, time, threads=threads, slot=slot)

        async def slices(work: LoopWork, name: str) -> None:
            for _ in range(3):
                await work.turn(name)
                order.append(name)

        away = asyncio.create_task(one.in_thread("a", go_on.wait))
        waiting = [
            asyncio.create_task(slices(one, "one")), asyncio.create_task(slices(other, "other")),
        ]  # fmt: skip
        await idle.comes()
        assert not order
        go_on.set()
        assert await away
        for done in range(1, 7):
            while len(order) < done:
                assert len(idle.calls) >= 1
                await idle.comes_for_one()
            assert len(order) == done
        await asyncio.wait(waiting)
    assert order in (["one", "other"] * 3, ["other", "one"] * 3)


async def test_a_slot_is_left_where_all_who_waited_are_gone(
    clock: FakeClock, idle: Idle, time: Time
) -> None:
    slot = Slot()
    one = work_of(clock, idle, time, slot=slot)
    other = work_of(clock, idle, time, slot=slot)
    await one.turn("a")
    gone = asyncio.create_task(one.turn("b"))
    waiting = asyncio.create_task(other.turn("c"))
    await rounds()
    gone.cancel()
    for _ in range(5):
        await idle.comes()
    assert waiting.done()
    later = asyncio.create_task(one.turn("d"))
    for _ in range(5):
        await idle.comes()
    assert later.done()


# Evaluations that take long


def test_an_evaluation_is_broken_off_where_it_may_not_take_long() -> None:
    chosen = compile_filter(NESTED)
    event = {"data": {"l": [float(n) for n in range(10)]}}
    cost = FilterCost()
    with pytest.raises(Undecided):
        chosen.matches_at_cost(event, cost, most=50)
    assert cost == FilterCost(events=0, steps=50)
    assert chosen.matches_at_cost(event, cost)
    assert cost.events == 1
    assert not cost.exceeded


async def test_what_takes_long_is_decided_by_a_thread_and_just_so(
    clock: FakeClock, event: MakeEvent
) -> None:
    lists = [b"[9.0]", b"[1.0,2.0]", b"[" + b",".join([b"9.0"] * 60) + b"]", b"[3.0]", b"[9.0,9.0]"]
    text = b'{"cursor":"e-%020d","data":{"l":%b}}'
    page = [event(n, json=text % (n, one)) for n, one in enumerate(lists, 1)]
    page += [event(6, json=text % (6, b"[" + b",".join([b"1.0"] * 100) + b"]"))]
    query = StreamQuery(
        Scope(), View.of(Scope(category=("**",), reserved=False)), compile_filter(NESTED)
    )
    seen: list[str] = []

    class Threads(ThreadPoolExecutor):
        def submit(self, *arguments: object, **options: object) -> object:  # type: ignore[override]
            seen.append("submitted")
            return super().submit(*arguments, **options)  # type: ignore[arg-type]

    with Threads(1) as threads:
        for most, expected in ((BUDGET, 0), (100, 1)):
            work = LoopWork(
                clock,
                threads=threads,
                budget=WorkBudget(slice_seconds=10.0),
                filters=FilterBudget(loop_steps=most),
            )
            selector = EventSelector(query, work, "key", 10 * BUDGET)
            chosen, looked = await selector.select(page)
            assert [one.offset for one in chosen] == [1, 3, 5]
            assert looked == len(page)
            assert selector.cost.events == len(page)
            assert len(seen) == expected
