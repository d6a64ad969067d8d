"""What filters may take of the event loop: of one event, of a page, and of a key over time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from gateway.access.policy.decision import View
from gateway.budgets import FILTERS, FilterBudget, WorkBudget
from gateway.event import Event
from gateway.filters.cel.values import BUDGET
from gateway.filters.expression import FilterCost, compile_filter
from gateway.filters.scope import Scope
from gateway.scheduling.loop_work import FilterBucket, LoopWork
from gateway.streaming.event_selector import EventSelector
from gateway.streaming.live.cost_backoff import CostBackoff
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.stream_timings import StreamTimings
from gateway.streaming.live.subscription import State, Subscription
from gateway.wire.http_body import NDJSON_PLAIN
from tests.support.extent import Extent
from tests.support.machine_time import patience

if TYPE_CHECKING:
    from tests.conftest import FakeClock

MakeEvent = Callable[..., Event]
VIEW = View.of(Scope(category=("**",), reserved=False))
COSTLY = "data.l.exists(a, data.l.exists(b, data.l.exists(c, a == 'no')))"
MODERATE = "data.l.exists(a, a == 'no')"
EVENT = b'{"cursor":"e-%020d","data":{"l":[' + b",".join([b"1"] * 100) + b"]}}"


class Peer:
    """A sink that takes everything."""

    descriptor = -1
    clear = True

    def __init__(self) -> None:
        self.text = b""

    def write(self, data: bytes) -> bool:
        self.text += data
        return True

    async def drained(self) -> None: ...

    def finish(self, last: bytes, within: float) -> None: ...

    def abort(self) -> None: ...


class Timer:
    """A millisecond passes each time it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def work(clock: FakeClock) -> LoopWork:
    return LoopWork(clock, 0.1, timer=Timer())


@pytest.fixture
def replayed() -> list[Subscription]:
    return []


@pytest.fixture
def hub(clock: FakeClock, replayed: list[Subscription], work: LoopWork) -> Hub:
    return Hub(Extent(), clock, replayed.append, StreamTimings(), work)


def join(hub: Hub, source: str | None = None, key_id: str = "key") -> Subscription:
    chosen = None if source is None else compile_filter(source)
    interest = Interest(StreamQuery(Scope(), VIEW, chosen), NDJSON_PLAIN)
    subscription = Subscription(interest, Peer(), key_id, hub.position)
    hub.open(subscription)
    return subscription


def events(event: MakeEvent, first: int, last: int) -> list[Event]:
    return [event(offset, json=EVENT % offset) for offset in range(first, last + 1)]


def offsets(subscription: Subscription) -> list[int]:
    assert isinstance(subscription.sink, Peer)
    return [int(line[13:33]) for line in subscription.sink.text.splitlines() if b'"data"' in line]


def deliver(hub: Hub, clock: FakeClock) -> None:
    while hub.flush() is not None:
        clock.tick(0.02)


# One event


@pytest.mark.parametrize(
    "source",
    [
        "data.l.exists(x, data.s < data.s2)",
        "data.l.exists(x, data.s.contains(data.half))",
        "data.l.exists(x, data.short.contains(data.inner))",
        "data.l.exists(x, data.middle.contains(data.quarter))",
    ],
)
def test_comparing_and_searching_long_strings_is_charged(source: str) -> None:
    text = "a" * 200_000
    data = {
        "l": list(range(9000)), "s": text, "s2": text, "half": "a" * 90_000 + "b" + "a" * 90_000,
        "short": "a" * 2400, "inner": "a" * 600 + "b" + "a" * 600,
        "middle": "a" * 29_000, "quarter": "a" * 7000 + "b" + "a" * 7000,
    }  # fmt: skip
    cost = FilterCost()
    assert not compile_filter(source).matches_at_cost({"data": data}, cost)
    assert cost == FilterCost(events=1, steps=BUDGET, exceeded=1)


@pytest.mark.parametrize("seed", range(5))
def test_contains_finds_what_is_there_however_long_both_are(seed: int) -> None:
    rng = random.Random(seed)
    contains = compile_filter("data.s.contains(data.p)")
    for length in (0, 1, 17, 200, 2499, 2500, 29_999, 30_000, 100_000):
        text = "".join(rng.choices("ab ", k=length))
        for size in (0, 1, 16, 17, 99, 100, 2000, length // 3 + 5, length - 1, length, length + 1):
            begin = rng.randint(0, max(0, length - size))
            part = text[begin : begin + size]
            for wanted in (part, part + " ", part[:-1] + "é"):
                found = contains.matches({"data": {"s": text, "p": wanted}})
                assert found is (wanted in text), (length, size)


# A page of events for live groups


def test_matching_many_groups_is_cut_into_slices(
    hub: Hub, event: MakeEvent, clock: FakeClock
) -> None:
    streams = [join(hub, f"data.l[0] > {-number}") for number in range(1000)]
    pauses = sum(1 for _ in hub.publishing(events(event, 1, 40), 40))
    assert pauses >= 1000 * 40 // 64 // 5
    assert hub.position == 40
    deliver(hub, clock)
    assert all(offsets(stream) == list(range(1, 41)) for stream in streams[2::99])


def test_a_costly_filter_leaves_the_live_group_and_misses_nothing(
    hub: Hub, event: MakeEvent, replayed: list[Subscription], clock: FakeClock
) -> None:
    dear, plain = join(hub, COSTLY), join(hub)
    hub.publish(events(event, 1, 50), 50)
    deliver(hub, clock)
    assert offsets(plain) == list(range(1, 51))
    assert replayed == [dear]
    assert (dear.state, dear.cursor, offsets(dear)) == (State.REPLAYING, 0, [])
    assert dear.bounded
    assert isinstance(dear.sink, Peer)
    assert b"filter_costly" in dear.sink.text
    # It was evaluated once: not once for each event.
    assert hub.work.totals.steps <= BUDGET
    assert not hub.join(dear)


def test_an_ordinary_filter_stays_live_and_is_not_charged(hub: Hub, event: MakeEvent) -> None:
    stream = join(hub, "data.l.exists(x, x == 1) && severity < 5")
    hub.publish(events(event, 1, 500), 500)
    assert stream.state is State.LIVE
    assert hub.work.wait("key") == 0.0


def test_many_moderate_filters_of_one_key_leave_when_its_share_is_used_up(
    event: MakeEvent, clock: FakeClock, replayed: list[Subscription]
) -> None:
    work = LoopWork(clock, 0.01, timer=Timer())
    hub = Hub(Extent(), clock, replayed.append, StreamTimings(), work)
    mine = [join(hub, f"{MODERATE} || data.l[0] == {number}", "mine") for number in range(200)]
    other = join(hub, MODERATE, "other")
    published = 0
    while mine[0].state is State.LIVE:
        published += 20
        assert published <= 2000
        hub.publish(events(event, published - 19, published), published)
    assert published > 20
    assert hub.work.wait("mine") > 0
    assert all(stream.state is State.REPLAYING for stream in mine)
    assert other.state is State.LIVE


def test_who_comes_while_a_page_is_matched_has_neither_a_gap_nor_a_duplicate(
    hub: Hub, event: MakeEvent, replayed: list[Subscription], clock: FakeClock
) -> None:
    streams = [join(hub, f"data.l[0] > {-number}") for number in range(500)]
    parts = hub.publishing(events(event, 1, 20), 20)
    next(parts)
    known, new = join(hub, "data.l[0] > -7"), join(hub, "data.l[0] > -7000")
    assert known.state is State.LIVE
    assert (new.state, replayed, hub.can_join) == (State.REPLAYING, [new], False)
    hub.forget(streams[3])
    narrowed = View.of(Scope(category=("none",), reserved=False))
    hub.change_view(streams[4], narrowed)
    for _ in parts:
        pass
    deliver(hub, clock)
    assert offsets(known) == list(range(1, 21))
    assert offsets(streams[3]) == offsets(streams[4]) == offsets(new) == []
    assert (streams[4].cursor, hub.can_join) == (0, True)
    # What has left is gone, and what comes is told of what is next.
    new.cursor = hub.position
    assert hub.join(new)
    hub.publish(events(event, 21, 22), 22)
    deliver(hub, clock)
    assert offsets(new) == [21, 22]


def test_a_page_that_takes_too_long_goes_out_in_pieces(
    hub: Hub, event: MakeEvent, clock: FakeClock
) -> None:
    stream = [join(hub, f"data.l[0] > {-number}") for number in range(300)][5]
    seen = []
    for _ in hub.publishing(events(event, 1, 150), 150):
        deliver(hub, clock)
        seen.append(len(offsets(stream)))
    deliver(hub, clock)
    assert 0 < seen[len(seen) // 2] < 150
    assert offsets(stream) == list(range(1, 151))


# A page of events for one key


async def test_selection_gives_way_and_stops_when_the_filter_has_taken_enough(
    work: LoopWork, event: MakeEvent
) -> None:
    query = StreamQuery(Scope(), VIEW, compile_filter(COSTLY))
    selector = EventSelector(query, work, "key", most_steps=5 * BUDGET)
    chosen, looked = await selector.select(events(event, 1, 50))
    assert (chosen, selector.exhausted) == ([], True)
    assert 5 <= looked <= 6
    assert selector.cost.exceeded == looked
    assert work.totals.exceeded == looked


async def test_one_slice_is_done_in_each_round_of_the_loop(clock: FakeClock) -> None:
    work = LoopWork(clock)
    rounds: list[int] = []
    now = 0

    async def busy(key_id: str) -> None:
        slices = work.slices(key_id)
        for _ in range(5):
            await slices.begin()
            rounds.append(now)

    tasks = [asyncio.create_task(busy(f"key{number % 3}")) for number in range(9)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        now += 1
    assert len(rounds) == 45
    assert max(rounds.count(number) for number in rounds) <= 2


async def test_keys_take_turns_however_much_each_has_asked_for(clock: FakeClock) -> None:
    work = LoopWork(clock)
    order: list[str] = []

    async def busy(key_id: str) -> None:
        await work.turn(key_id)
        order.append(key_id)

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(busy("greedy"))
        group.create_task(busy("modest"))
    assert order.index("modest") <= 3


async def test_who_gives_up_waiting_does_not_keep_the_turn(clock: FakeClock) -> None:
    work = LoopWork(clock)
    await work.turn("one")
    waiting = [asyncio.create_task(work.turn(f"key{number}")) for number in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[1].cancel()
    await asyncio.wait_for(waiting[2], patience(60))


# Over time


def test_a_share_is_saved_up_and_owed() -> None:
    bucket = FilterBucket(rate=100.0, burst=1000.0, now=0.0)
    bucket.charge(900, 0.0)
    assert bucket.wait(0.0) == 0.0
    bucket.charge(300, 0.0)
    assert bucket.wait(0.0) == pytest.approx(2.01)
    assert bucket.wait(3.0) == 0.0
    assert not bucket.is_full(3.0)
    assert bucket.is_full(1000.0)


def test_without_a_limit_nobody_is_charged(clock: FakeClock) -> None:
    work = LoopWork(clock, 0.0)
    work.charge("key", FilterCost(events=1, steps=10**12))
    assert work.wait("key") == 0.0


def test_a_stream_comes_back_after_a_while_of_cheap_events_and_stays_longer_away_each_time() -> (
    None
):
    budget = FilterBudget()
    costly, cheap = CostBackoff(), FilterCost(events=100, steps=1000)
    dear = FilterCost(events=1, steps=BUDGET, exceeded=1)
    costly.begin(0.0, budget)
    costly.add(cheap, 59.0, budget)
    assert costly
    costly.add(cheap, 60.0, budget)
    assert not costly
    costly.begin(100.0, budget)
    costly.add(dear, 130.0, budget)
    costly.add(cheap, 221.0, budget)  # after twice as long, but not without cost
    assert costly
    costly.add(cheap, 221.0 + 239.0, budget)
    assert costly
    costly.add(cheap, 221.0 + 241.0, budget)
    assert not costly


def test_a_stream_is_told_of_events_that_were_too_costly_but_not_all_the_time() -> None:
    costly, dear = CostBackoff(), FilterCost(events=2, steps=2 * BUDGET, exceeded=2)
    costly.add(dear, 0.0, FILTERS)
    assert costly.tell(0.0, FILTERS) == 2
    costly.add(dear, 1.0, FILTERS)
    costly.add(dear, 2.0, FILTERS)
    assert costly.tell(2.0, FILTERS) == 0
    assert costly.tell(60.0, FILTERS) == 4
    assert costly.tell(120.0, FILTERS) == 0


def test_a_slice_ends_after_its_time(clock: FakeClock) -> None:
    async def run() -> int:
        slices = LoopWork(clock, timer=Timer(), budget=WorkBudget(slice_seconds=0.01)).slices("key")
        await slices.begin()
        count = 0
        while not slices.over():
            count += 1
        return count

    assert 8 <= asyncio.run(run()) <= 10
