"""What every log promises of counting: exactly what is wanted, by time and by members."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.event import Draft, Event
from gateway.filters.scope import EVERYTHING, Scope, all_of, any_of
from gateway.log.counts import (
    BLOCK_OFFSETS,
    COUNTED_MEMBERS,
    Counts,
    EventCounter,
    Grouping,
    newest_block,
)
from gateway.log.ports import Log, ScanHint
from tests.support.examples import examples

if TYPE_CHECKING:
    from tests.conftest import FakeClock

MakeDraft = Callable[..., Draft]
NewLog = Callable[[], Awaitable[Log]]
EVERY = ScanHint(EVERYTHING, (EVERYTHING,), True)
COUNT = 120
FLOOR = 15


async def filled(log: Log, clock: FakeClock, draft: MakeDraft) -> Log:
    """Some events in each of some seconds; the oldest are gone by retention."""
    rng = random.Random(7)
    sizes = []
    for number in range(COUNT):
        one = draft(
            id=f"e{number}",
            tenant=rng.choice(["t1", "t2"]),
            category=rng.choice(["a", "a.b", "b", "gateway.x"]),
            action=rng.choice(["get", "put"]),
            severity=rng.randint(1, 6),
            outcome=rng.choice(["success", "denied"]),
            actor={"id": rng.choice(["", "u", "u/1\x00", "\x01", "é\n"])},
        )
        sizes.append(len(one.stored(b"2023-11-14T22:13:20.000000Z")))
        await log.append([[one]])
        clock.step(rng.choice([0.0, 0.0, 0.3, 7.0]))
    await log.trim(None, sum(sizes[FLOOR:]))
    assert (log.floor, log.head) == (FLOOR, COUNT)
    return log


@pytest.fixture
async def counted_log(log: Log, clock: FakeClock, draft: MakeDraft) -> Log:
    """A log that is only read."""
    return await filled(log, clock, draft)


async def every_event(log: Log) -> list[Event]:
    events: list[Event] = []
    at = log.floor
    while at < log.head:
        page = await log.read(at, log.head, limit=1000)
        events, at = events + page.events, page.reached
    return events


def some(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=2).map(tuple)


scopes = st.builds(
    Scope,
    tenant=some("t1", "t2", "*"),
    category=some("a", "a.**", "**", "gateway.**"),
    outcome=some("success", "denied"),
    actor=some("u", "u/**", "**"),
    min_severity=st.integers(1, 6),
    reserved=st.booleans(),
)


def filled_counts(counts: Counts) -> Counts:
    """Counts without what says nothing."""
    return {number: one for number, one in counts.items() if one.count}


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wanted=scopes,
    allowed=st.lists(scopes, min_size=1, max_size=3).map(tuple),
    after=st.integers(0, COUNT),
    length=st.integers(0, COUNT),
    step=st.sampled_from([1, 7, 60, 86_400]),
    members=st.lists(st.sampled_from(COUNTED_MEMBERS), max_size=3, unique=True).map(tuple),
)
async def test_counts_are_those_of_the_events_that_are_read(
    counted_log: Log, wanted: Scope, allowed: tuple[Scope, ...], after: int, length: int,
    step: int, members: tuple[str, ...],
) -> None:  # fmt: skip
    hint = ScanHint(wanted, allowed, True)
    if not counted_log.can_read_raw(hint):
        return
    grouping = Grouping(step * 1_000_000, members)
    until = after + length
    found = await counted_log.count(after, until, hint=hint, grouping=grouping)
    counter = EventCounter(grouping)
    contains = all_of([wanted.compile(), any_of([scope.compile() for scope in allowed])])
    for event in await every_event(counted_log):
        if after < event.offset <= until and contains(event):
            counter.add(event)
    assert filled_counts(found) == counter.counts


async def test_a_whole_block_is_counted_at_once(
    log: Log, clock: FakeClock, draft: MakeDraft
) -> None:
    first = [draft(id=f"a{n}", actor={"id": f"u{n}"}) for n in range(BLOCK_OFFSETS - 10)]
    await log.append([first])
    clock.step(3600)
    await log.append([[draft(id=f"b{n}", outcome="denied") for n in range(30)]])
    hour = Grouping(3_600_000_000, ("outcome", "actor"))
    newest = newest_block(0, log.head)
    assert newest == (BLOCK_OFFSETS, BLOCK_OFFSETS + 20, None)
    [last] = (await log.count(*newest[:2], hint=EVERY, grouping=hour)).values()
    assert (last.count, last.values) == (20, [{"denied": 20}, {"": 20}])
    older = newest_block(0, newest.after)
    assert older == (0, BLOCK_OFFSETS, 0)
    one, other = sorted((await log.count(*older[:2], hint=EVERY, grouping=hour)).items())
    assert other[0] == one[0] + 1
    assert (one[1].count, other[1].count) == (BLOCK_OFFSETS - 10, 10)
    assert len(one[1].values[1]) == BLOCK_OFFSETS - 10


async def test_nothing_is_counted_where_nothing_is(log: Log, draft: MakeDraft) -> None:
    seconds = Grouping(1_000_000)
    assert await log.count(0, 10, hint=EVERY, grouping=seconds) == {}
    await log.append([[draft()]])
    assert await log.count(1, 10, hint=EVERY, grouping=seconds) == {}
    assert await log.last_before_each([]) == []


async def test_offsets_before_several_times_are_those_before_each(counted_log: Log) -> None:
    recorded = [event.recorded_at() for event in await every_event(counted_log)]
    times = sorted([0, *recorded, *[one + 1 for one in recorded], 2**62])
    model = [FLOOR + bisect_left(recorded, micros) for micros in times]
    assert await counted_log.last_before_each(times) == model
    assert [await counted_log.last_before(micros) for micros in times[::9]] == model[::9]
