"""What every log promises of reading: nothing left out, always forward, bounded pages."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.event import MAX_EVENT_BYTES, Draft, Event
from gateway.filters.scope import EVERYTHING, Scope, all_of, any_of
from gateway.log.ports import FOUND_EVENTS, Log, Page, RetentionExceeded, ScanHint
from tests.support.examples import examples
from tests.support.memory_log import MemoryLog

if TYPE_CHECKING:
    from tests.conftest import FakeClock

MakeDraft = Callable[..., Draft]
NewLog = Callable[[], Awaitable[Log]]
FRESH_LOG = [HealthCheck.function_scoped_fixture]
MIB = 1 << 20


async def filled(log: Log, draft: MakeDraft, count: int, floor: int = 0) -> Log:
    """Events `e1`, `e2` ...; the first `floor` of them are gone by retention."""
    rng = random.Random(count)
    drafts = [
        draft(
            id=f"e{number}",
            tenant=rng.choice(["t1", "t2"]),
            category=rng.choice(["a", "a.b", "a.b.c", "b", "gateway.x"]),
            severity=rng.randint(1, 6),
            outcome=rng.choice(["success", "denied"]),
            actor={"id": rng.choice(["u", "u/1", "u/\U0010ffffx", "u0", "u/1\x00"])},
            targets=[{"urn": rng.choice(["r/1", "r/2"])}],
        )
        for number in range(1, count + 1)
    ]
    sizes = [len(one.stored(b"2023-11-14T22:13:20.000000Z")) for one in drafts]
    await log.append([drafts[: count // 2], drafts[count // 2 :]])
    if floor:
        await log.trim(None, sum(sizes[floor:]))
    assert (log.floor, log.head) == (floor, count)
    return log


def offsets(page: Page) -> list[int]:
    return [event.offset for event in page.events]


async def test_reads_of_the_store_are_timed_and_those_from_memory_are_not(
    log: Log, draft: MakeDraft
) -> None:
    await filled(log, draft, 2)
    before = sum(log.read_seconds.cells[:-1])
    assert await log.find("none", None) == []
    grown = sum(log.read_seconds.cells[:-1]) > before
    assert grown == (not isinstance(log, MemoryLog))


async def test_a_read_gives_what_lies_between(log: Log, draft: MakeDraft) -> None:
    await filled(log, draft, 10)
    for after, until, limit, read, reached in [
        (0, 10, 100, range(1, 11), 10),
        (0, 10, 10, range(1, 11), 10),
        (0, 10, 3, range(1, 4), 3),
        (0, 10, 1, range(1, 2), 1),
        (4, 7, 100, range(5, 8), 7),
        (4, 7, 2, range(5, 7), 6),
        (9, 10, 1, range(10, 11), 10),
        (0, 99, 100, range(1, 11), 10),
        (9, 2**60, 100, range(10, 11), 10),
        (10, 10, 100, range(0), 10),
        (10, 99, 100, range(0), 10),
        (5, 5, 100, range(0), 5),
        (5, 3, 100, range(0), 5),
        (11, 99, 100, range(0), 11),
    ]:
        page = await log.read(after, until, limit=limit)
        assert (offsets(page), page.reached) == (list(read), reached), (after, until, limit)


@settings(max_examples=examples(25), suppress_health_check=FRESH_LOG)
@given(
    count=st.integers(0, 300),
    floor=st.integers(0, 50),
    limit=st.integers(1, 400),
    begin=st.integers(0, 300),
)
async def test_reading_on_from_reached_gives_every_event_once_and_in_order(
    new_log: NewLog, draft: MakeDraft, count: int, floor: int, limit: int, begin: int
) -> None:
    assume(floor <= count)
    log = await filled(await new_log(), draft, count, floor)
    at, seen = max(begin, floor), []
    while at < log.head:
        page = await log.read(at, log.head, limit=limit)
        assert page.reached > at, "a read always advances"
        assert len(page.events) <= limit
        assert offsets(page) == list(range(at + 1, page.reached + 1))
        seen += offsets(page)
        at = page.reached
    assert seen == list(range(max(begin, floor) + 1, count + 1))


async def test_pages_of_the_largest_events_stay_around_a_mebibyte(
    log: Log, draft: MakeDraft
) -> None:
    filler = "x" * (MAX_EVENT_BYTES - 200)
    drafts = [draft(id=f"e{number}", data={"x": filler}) for number in range(30)]
    await log.append([drafts])
    hint = ScanHint(EVERYTHING, (Scope(category=("**",), reserved=False),), True)
    for lines in (False, True):
        at, seen = 0, 0
        while at < log.head:
            if lines:
                got = await log.read_raw(at, log.head, limit=1000, hint=hint)
                sizes, reached = [len(line) for line in got.lines], got.reached
            else:
                page = await log.read(at, log.head, limit=1000)
                sizes, reached = [len(event.json) for event in page.events], page.reached
            assert reached > at
            assert sum(sizes) < MIB + MAX_EVENT_BYTES
            seen += len(sizes)
            at = reached
        assert seen == 30


async def test_a_page_of_middling_events_is_cut_where_it_is_full(
    log: Log, draft: MakeDraft
) -> None:
    drafts = [draft(id=f"e{n}", data={"x": "y" * 10_000}) for n in range(300)]
    await log.append([drafts])
    page = await log.read(0, 300, limit=1000)
    assert 1 < len(page.events) < 300
    assert page.reached == page.events[-1].offset == len(page.events)


async def test_reading_behind_retention_is_refused(log: Log, draft: MakeDraft) -> None:
    await filled(log, draft, 100, floor=60)
    for after, until in ((0, 100), (59, 100), (59, 60), (0, 10), (59, 59), (0, 0)):
        with pytest.raises(RetentionExceeded):
            await log.read(after, until, limit=1000)
    assert offsets(await log.read(60, 100, limit=1000)) == list(range(61, 101))
    assert offsets(await log.read(60, 61, limit=1000)) == [61]


# Narrowing

PATTERNS = ["a", "a.b", "a.*", "a.**", "*", "**", "*.b", "b", "gateway.**", "gateway.x"]


def some(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=2).map(tuple)


scopes = st.builds(
    Scope,
    tenant=some("t1", "t2", "*", "t1.**"),
    category=some(*PATTERNS),
    outcome=some("success", "denied"),
    actor=some("u", "u/*", "u/**", "u/1", "**"),
    resource=some("r/1", "r/*", "**"),
    min_severity=st.integers(1, 6),
    reserved=st.booleans(),
)


def wants(hint: ScanHint) -> Callable[[Event], bool]:
    allowed = any_of([scope.compile() for scope in hint.allowed])
    return all_of([hint.wanted.compile(), allowed])


@pytest.fixture
async def long_log(log: Log, draft: MakeDraft) -> Log:
    """A log of 150 events, which is only read."""
    return await filled(log, draft, 150)


@settings(max_examples=examples(40), suppress_health_check=FRESH_LOG)
@given(
    wanted=scopes,
    allowed=st.lists(scopes, min_size=1, max_size=3).map(tuple),
    after=st.integers(0, 120),
    limit=st.integers(1, 60),
)
async def test_narrowing_leaves_out_nothing_that_is_wanted(
    long_log: Log,
    wanted: Scope,
    allowed: tuple[Scope, ...],
    after: int,
    limit: int,
) -> None:
    hint = ScanHint(wanted, allowed, True)
    contains = wants(hint)
    every = (await long_log.read(0, 150, limit=1000)).events
    every += (await long_log.read(len(every), 150, limit=1000)).events if len(every) < 150 else []
    page = await long_log.read(after, 150, limit=limit, hint=hint)
    assert page.reached > after
    within = [event for event in every if after < event.offset <= page.reached]
    expected = [event for event in within if contains(event)]
    assert [event for event in page.events if contains(event)] == expected
    assert offsets(page) == sorted(set(offsets(page)))
    assert len(page.events) <= limit
    if long_log.can_read_raw(hint):
        lines = await long_log.read_raw(after, 150, limit=limit, hint=hint)
        assert lines.reached > after
        within = [event for event in every if after < event.offset <= lines.reached]
        assert lines.lines == [event.json for event in within if contains(event)]
        assert [*lines.offsets(after)] == [event.offset for event in within if contains(event)]
        assert len(lines.lines) <= limit


async def test_lines_are_given_for_plain_grants_and_never_for_incomplete_ones(log: Log) -> None:
    plain = (Scope(category=("auth.**", "**"), tenant=("t1",), reserved=False),)
    assert log.can_read_raw(ScanHint(EVERYTHING, plain, True))
    assert not log.can_read_raw(ScanHint(EVERYTHING, plain, False))
    assert not log.can_read_raw(ScanHint(EVERYTHING, plain))


async def test_lines_are_read_like_events(log: Log, draft: MakeDraft) -> None:
    await filled(log, draft, 100, floor=20)
    everything = ScanHint(EVERYTHING, (EVERYTHING,), True)
    page = await log.read(20, 100, limit=1000)
    lines = await log.read_raw(20, 100, limit=1000, hint=everything)
    assert lines.lines == [event.json for event in page.events]
    assert lines.reached == 100
    some_lines = await log.read_raw(30, 50, limit=5, hint=everything)
    assert (some_lines.lines, some_lines.reached) == (lines.lines[10:15], 35)
    nothing = await log.read_raw(100, 200, limit=5, hint=everything)
    assert (nothing.lines, nothing.reached) == ([], 100)
    with pytest.raises(RetentionExceeded):
        await log.read_raw(19, 100, limit=5, hint=everything)


async def test_a_read_that_finds_nothing_still_moves_on(log: Log, draft: MakeDraft) -> None:
    await filled(log, draft, 200)
    nowhere = ScanHint(Scope(tenant=("nobody",)), (Scope(category=("**",), reserved=False),), True)
    page = await log.read(0, 200, limit=5, hint=nowhere)
    assert (page.events, page.reached) == ([], 200)
    lines = await log.read_raw(0, 200, limit=5, hint=nowhere)
    assert (lines.lines, lines.reached) == ([], 200)


async def test_grants_at_their_limits_can_be_asked_for(log: Log, draft: MakeDraft) -> None:
    await filled(log, draft, 150)
    names = tuple(f"x{number}.**" for number in range(64))
    widest = tuple(
        Scope(tenant=(*names[1:], "t1.**"), category=(*names[1:], "a.**"), reserved=False,
              min_severity=severity % 6 + 1)
        for severity in range(64)
    )  # fmt: skip
    hint = ScanHint(Scope(actor=tuple(f"u/{n}" for n in range(256))), widest, True)
    page = await log.read(0, 150, limit=1000, hint=hint)
    contains = wants(hint)
    assert page.reached == 150
    assert any(map(contains, page.events))


# By id and by time


async def test_an_event_is_found_by_id_and_tenant(log: Log, draft: MakeDraft) -> None:
    await log.append([[draft(id="x", tenant="t1"), draft(id="x", tenant="t2"), draft(id="y")]])
    assert {event.tenant: event.offset for event in await log.find("x", None)} == {"t1": 1, "t2": 2}
    assert [event.offset for event in await log.find("x", "t2")] == [2]
    assert await log.find("x", "t3") == []
    assert await log.find("z", None) == []
    assert await log.find("", None) == []
    assert [event.offset for event in await log.find("y", "default")] == [3]


async def test_events_of_one_id_in_very_many_tenants_are_found_some_at_a_time(
    log: Log, draft: MakeDraft
) -> None:
    count = 2 * FOUND_EVENTS + 3
    await log.append([[draft(id="x", tenant=f"t{n % count}") for n in range(count)]])
    found: list[int] = []
    while part := await log.find("x", None, found[-1] if found else 0):
        assert len(part) <= FOUND_EVENTS
        found += [event.offset for event in part]
    assert found == list(range(1, count + 1))
    [last] = await log.find("x", f"t{count - 1}")
    assert last.offset == count
    assert await log.find("x", "t0", 1) == []


@settings(max_examples=examples(25), suppress_health_check=FRESH_LOG)
@given(
    steps=st.lists(st.sampled_from([0.0, 0.0, 0.000_001, 0.5, 1.0, -2.0, 60.0]), max_size=12),
    floor=st.integers(0, 6),
    nudge=st.integers(-2, 2),
    data=st.data(),
)
async def test_last_before_is_the_newest_offset_recorded_before_a_time(
    new_log: NewLog, clock: FakeClock, draft: MakeDraft, steps: list[float], floor: int,
    nudge: int, data: st.DataObject,
) -> None:  # fmt: skip
    log = await new_log()
    recorded: list[int] = []
    for step in steps:
        clock.step(step)
        await log.append([[draft()]])
        recorded.append(max([*recorded[-1:], int(clock.now() * 1_000_000)]))
    floor = min(floor, len(steps))
    if floor:
        await log.trim(recorded[floor - 1] + 1, None)
        assert log.floor >= floor
    micros = data.draw(st.sampled_from([*recorded, 0, 2**62])) + nudge
    model = sum(time < micros for time in recorded)
    assert await log.last_before(micros) == max(model, log.floor)
