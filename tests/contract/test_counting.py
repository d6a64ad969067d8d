"""Counts over every log: exact or absent, whatever the view, the query and the bounds are."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.access.grants.mask import Masks
from gateway.access.policy.decision import Rule, View
from gateway.event import Draft, Event
from gateway.filters.expression import compile_filter
from gateway.filters.scope import EVERYTHING, Scope
from gateway.log.counts import BLOCK_OFFSETS, COUNTED_MEMBERS, Grouping
from gateway.log.ports import Log
from gateway.looking.bounds import LookBounds
from gateway.looking.count_cache import CountCache
from gateway.looking.looks import Looks
from gateway.scheduling.loop_work import LoopWork
from gateway.streaming.counts.counting import Counted, Counting, CountRange
from gateway.streaming.live.interest import StreamQuery
from tests.support.examples import examples

if TYPE_CHECKING:
    from tests.conftest import FakeClock

MakeDraft = Callable[..., Draft]
NewLog = Callable[[], Awaitable[Log]]
COUNT = 50
# The clock of tests begins here.
BEGAN = 1_700_000_000 * 1_000_000
LATER = BEGAN + 3_000 * 1_000_000
EVERY_VIEW = View.of(Scope(category=("**",), reserved=False), Scope(category=("gateway.**",)))


def drafts_of(rng: random.Random, draft: MakeDraft, count: int) -> list[Draft]:
    return [
        draft(
            id=f"e{rng.random()}",
            tenant=rng.choice(["t1", "t2"]),
            category=rng.choice(["a", "a.b", "b", "gateway.x"]),
            action=rng.choice(["get", "put"]),
            severity=rng.randint(1, 6),
            outcome=rng.choice(["success", "denied"]),
            actor={"id": rng.choice(["", "u", "u/1", "v"])},
            data={"n": rng.randint(1, 3)},
        )
        for _ in range(count)
    ]


async def filled(log: Log, clock: FakeClock, draft: MakeDraft, count: int = COUNT) -> Log:
    """Some events in some of many seconds."""
    rng = random.Random(3)
    while log.head < count:
        await log.append([drafts_of(rng, draft, rng.choice([1, 1, 2, 12]))])
        clock.step(rng.choice([0.0, 0.4, 1.0, 45.0]))
    return log


async def events_in(log: Log, after: int, until: int) -> list[Event]:
    events: list[Event] = []
    at = max(after, log.floor)
    while at < until:
        page = await log.read(at, until, limit=1000)
        events, at = events + page.events, page.reached
    return events


async def alive() -> None:
    pass


class Oracle:
    """What a reader of all pages counts."""

    def __init__(self, query: StreamQuery, grouping: Grouping, events: list[Event]) -> None:
        matcher, masks_for = query.matcher(), query.view.masks_for()
        self.buckets: Counter[int] = Counter()
        self.values: dict[str, Counter[str]] = {name: Counter() for name in grouping.members}
        self.hidden: Counter[str] = Counter()
        for event in events:
            seen = matcher(event)
            if seen is None:
                continue
            self.buckets[event.recorded_at() // grouping.micros] += 1
            masks = masks_for(event)
            for name in grouping.members:
                if name == "actor" and masks is not None and masks.hides("actor.id"):
                    self.hidden[name] += 1
                else:
                    self.values[name][str(getattr(seen, name))] += 1


async def check(counted: Counted, grouping: Grouping, oracle: Oracle, top: int = 3) -> None:
    """The buckets and the facets are those of the oracle."""
    tally = counted.tally
    numbers = {bucket: number for bucket, (number, _) in tally.buckets.items() if number}
    assert numbers == dict(oracle.buckets)
    assert tally.total == oracle.buckets.total()
    facets = end_of(tally.facets(top))
    for name, facet in facets.items():
        values = oracle.values[name]
        ordered = sorted(values.items(), key=lambda one: (-one[1], one[0]))
        assert facet.top == ordered[:top]
        assert facet.distinct == len(values)
        assert facet.others == sum(number for _, number in ordered[top:])
        assert facet.hidden == oracle.hidden[name]
        assert sum(n for _, n in facet.top) + facet.others + facet.hidden == tally.total


def end_of(steps: Any) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


some_masks = st.sampled_from(
    [Masks(), Masks(), Masks(mask=("actor.id",)), Masks(drop=("data",)), Masks(mask=("actor",))]
)
view_scopes = st.builds(
    Scope,
    tenant=st.sampled_from([(), ("t1",), ("t2",)]),
    category=st.sampled_from([("**",), ("a.**",), ("gateway.**", "b")]),
    actor=st.sampled_from([(), (), ("u/**",)]),
    reserved=st.just(False),
)
rules = st.builds(Rule, view_scopes, some_masks, after=st.sampled_from([0, 0, 20]))
views = st.one_of(
    st.just(EVERY_VIEW),
    st.builds(
        View,
        st.lists(rules, min_size=1, max_size=2).map(tuple),
        st.lists(view_scopes, max_size=1).map(tuple),
    ),
)
queries = st.builds(
    StreamQuery,
    st.builds(
        Scope,
        tenant=st.sampled_from([(), (), ("t1",)]),
        actor=st.sampled_from([(), (), ("u",)]),
        min_severity=st.sampled_from([1, 1, 3]),
    ),
    views,
    st.sampled_from([None, None, 'actor.id == "u"', "data.n > 1", "severity < 5"]).map(
        lambda source: None if source is None else compile_filter(source)
    ),
)
groupings = st.builds(
    Grouping,
    st.sampled_from([1, 10, 60, 3600]).map(lambda seconds: seconds * 1_000_000),
    st.lists(st.sampled_from(COUNTED_MEMBERS), max_size=3, unique=True).map(tuple),
)


@pytest.fixture
async def counted_log(log: Log, clock: FakeClock, draft: MakeDraft) -> Log:
    """A log that is only read."""
    return await filled(log, clock, draft)


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=queries,
    grouping=groupings,
    most=st.sampled_from([5, 20, 1000]),
    values=st.sampled_from([2, 4, 1000, 1000]),
    begin=st.sampled_from([0, 0, 11]),
)
async def test_parts_of_a_count_are_exact_and_make_the_whole(
    counted_log: Log, clock: FakeClock, query: StreamQuery, grouping: Grouping, most: int,
    values: int, begin: int,
) -> None:  # fmt: skip
    log = counted_log
    looks = Looks(LookBounds(offsets=most, viewed=most, rendered=most), clock)
    events = await events_in(log, 0, log.head)
    whole = Oracle(query, grouping, events[begin:])
    cache, at, found = CountCache(), log.head, Counter[int]()
    while True:
        counting = Counting(log, query, grouping, LoopWork(clock), "k", alive, values)
        with looks.look("k", "count") as look:
            counted = await counting.count(CountRange(begin, at, BEGAN, LATER), look, cache)
        assert begin <= counted.reached < at, "each part brings something"
        await check(counted, grouping, Oracle(query, grouping, events[counted.reached : at]))
        buckets = {bucket: one[0] for bucket, one in counted.tally.buckets.items()}
        if counted.complete:
            assert counted.reached == begin
        elif counted.since % grouping.micros == 0:
            # It ended at an edge: only the newest bucket may be one that another part began.
            for bucket in sorted(buckets)[:-1]:
                assert buckets[bucket] == whole.buckets[bucket]
        assert look.offsets <= most
        found.update(buckets)
        at = counted.reached
        if counted.complete:
            break
    assert +found == whole.buckets


@settings(max_examples=examples(8), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=queries, grouping=groupings, seed=st.integers(0, 5))
async def test_parts_meet_while_others_append_and_retention_trims(
    new_log: NewLog, clock: FakeClock, draft: MakeDraft, query: StreamQuery, grouping: Grouping,
    seed: int,
) -> None:  # fmt: skip
    log, rng = await filled(await new_log(), clock, draft), random.Random(seed)
    looks = Looks(LookBounds(offsets=12, viewed=12, rendered=12), clock)
    cache, at, total, gone = CountCache(), log.head, 0, 0
    matcher = query.matcher()
    expected = sum(matcher(event) is not None for event in await events_in(log, 0, at))
    while at > log.floor:
        counting = Counting(log, query, grouping, LoopWork(clock), "k", alive)
        with looks.look("k", "count") as look:
            counted = await counting.count(CountRange(0, at, BEGAN, LATER), look, cache)
        await check(
            counted, grouping, Oracle(query, grouping, await events_in(log, counted.reached, at))
        )
        total, at = total + counted.tally.total, counted.reached
        await log.append([drafts_of(rng, draft, rng.randint(0, 3))])
        floor = log.floor
        oldest = [e for e in await events_in(log, floor, log.head) if e.offset <= floor + 8]
        cut = rng.choice([None, oldest[-1].recorded_at()])
        lost = await events_in(log, floor, min(at, floor + 40))
        if cut is not None:
            await log.trim(cut, None)
        gone += sum(matcher(e) is not None for e in lost if e.offset <= log.floor)
    assert total + gone == expected


async def test_a_count_again_looks_at_no_whole_block_a_second_time(
    log: Log, clock: FakeClock, draft: MakeDraft
) -> None:
    rng = random.Random(1)
    for _ in range(9):
        await log.append([drafts_of(rng, draft, 1000)])
        clock.step(300)
    query = StreamQuery(Scope(tenant=("t1",)), View.of(Scope(category=("**",), reserved=False)))
    grouping, cache = Grouping(3_600_000_000, ("outcome", "actor")), CountCache()
    looks = Looks(LookBounds(), clock)

    async def count(view: View = query.view) -> tuple[Counted, int]:
        asked = StreamQuery(query.wanted, view)
        counting = Counting(log, asked, grouping, LoopWork(clock), "k", alive)
        with looks.look("k", "count") as look:
            counted = await counting.count(
                CountRange(log.floor, log.head, BEGAN, LATER), look, cache
            )
        await check(counted, grouping, Oracle(asked, grouping, await events_in(log, 0, log.head)))
        return counted, look.offsets

    assert (await count())[1] == 9000
    kept = cache.bytes
    assert (await count())[1] == 9000 - 2 * BLOCK_OFFSETS
    await log.append([drafts_of(rng, draft, 5)])
    assert (await count())[1] == 9005 - 2 * BLOCK_OFFSETS
    assert cache.bytes == kept
    # Another view, as of a changed grant, and masks on what is counted, are other queries.
    narrower = View.of(Scope(category=("a.**",), reserved=False))
    assert (await count(narrower))[1] == 9005
    masked = View((Rule(query.view.rules[0].scope, Masks(mask=("actor.id",))),))
    assert (await count(masked))[1] == 9005
    # A block that retention has cut is counted anew.
    first = (await log.read(0, 1, limit=1)).events[0].recorded_at()
    await log.trim(first + 1, None)
    assert 0 < log.floor < BLOCK_OFFSETS
    assert (await count())[1] == 9005 - log.floor - BLOCK_OFFSETS


async def test_a_view_of_everything_is_counted_by_time_without_a_look(
    log: Log, clock: FakeClock, draft: MakeDraft
) -> None:
    await filled(log, clock, draft)
    events = await events_in(log, 0, log.head)
    recorded = [event.recorded_at() for event in events]
    query = StreamQuery(EVERYTHING, EVERY_VIEW)
    for micros in (1_000_000, 60_000_000, 86_400_000_000):
        grouping = Grouping(micros)
        between = CountRange(10, 40, recorded[10], recorded[39] + 1)
        counting = Counting(log, query, grouping, LoopWork(clock), "k", alive)
        with Looks(LookBounds(offsets=1), clock).look("k", "count") as look:
            counted = await counting.count(between, look, CountCache())
        assert (counted.complete, look.offsets) == (True, 0)
        await check(counted, grouping, Oracle(query, grouping, events[10:40]))
    # A view that does not reach the gateway's own records counts the others.
    part = StreamQuery(EVERYTHING, View.of(Scope(category=("**",), reserved=False)))
    counting = Counting(log, part, Grouping(60_000_000), LoopWork(clock), "k", alive)
    with Looks(LookBounds(), clock).look("k", "count") as look:
        counted = await counting.count(CountRange(0, log.head, BEGAN, LATER), look, CountCache())
    await check(counted, Grouping(60_000_000), Oracle(part, Grouping(60_000_000), events))
    assert look.offsets == log.head


async def test_a_revoked_key_ends_its_count(log: Log, clock: FakeClock, draft: MakeDraft) -> None:
    await filled(log, clock, draft)
    times = iter(range(10_000))
    work = LoopWork(clock, timer=lambda: float(next(times)))

    async def revoked() -> None:
        raise PermissionError

    query = StreamQuery(EVERYTHING, View.of(Scope(tenant=("t1",))), compile_filter("data.n > 1"))
    counting = Counting(log, query, Grouping(1_000_000), work, "k", revoked)
    with Looks(LookBounds(), clock).look("k", "count") as look, pytest.raises(PermissionError):
        await counting.count(CountRange(0, log.head, BEGAN, LATER), look, CountCache())
