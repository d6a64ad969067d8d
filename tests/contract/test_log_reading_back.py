"""What every log promises of reading backwards: what reading forwards gives, newest first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.event import MAX_EVENT_BYTES, Draft, Event
from gateway.filters.scope import EVERYTHING, Scope
from gateway.ingest.decode import decode_events
from gateway.ingest.ids import new_ids
from gateway.log.ports import Log, RetentionExceeded, ScanHint
from tests.contract.test_log_reading import (
    FRESH_LOG,
    MIB,
    MakeDraft,
    NewLog,
    filled,
    offsets,
    scopes,
    wants,
)
from tests.support.examples import examples
from tests.support.memory_log import MemoryLog

if TYPE_CHECKING:
    from tests.conftest import FakeClock

OPEN = (Scope(category=("**",), reserved=False),)


async def forwards(log: Log, after: int, until: int) -> list[Event]:
    events: list[Event] = []
    while after < until:
        page = await log.read(after, until, limit=1000)
        events += page.events
        after = page.reached
    return events


async def backwards(log: Log, after: int, until: int, hint: ScanHint | None = None) -> list[Event]:
    events: list[Event] = []
    while until > after:
        page = await log.read_back(after, until, limit=7, hint=hint)
        assert page.reached < until, "a read always moves down"
        events += page.events
        until = page.reached
    return events


async def test_a_read_backwards_gives_what_lies_between_newest_first(
    log: Log, draft: MakeDraft
) -> None:
    await filled(log, draft, 10)
    for after, until, limit, read, reached in [
        (0, 10, 100, range(10, 0, -1), 0),
        (0, 10, 10, range(10, 0, -1), 0),
        (0, 10, 3, range(10, 7, -1), 7),
        (0, 10, 1, range(10, 9, -1), 9),
        (4, 7, 100, range(7, 4, -1), 4),
        (4, 7, 2, range(7, 5, -1), 5),
        (9, 10, 1, range(10, 9, -1), 9),
        (0, 99, 4, range(10, 6, -1), 6),
        (10, 10, 100, range(0), 10),
        (10, 99, 100, range(0), 10),
        (5, 5, 100, range(0), 5),
        (5, 3, 100, range(0), 3),
        (0, 0, 100, range(0), 0),
    ]:
        page = await log.read_back(after, until, limit=limit)
        assert (offsets(page), page.reached) == (list(read), reached), (after, until, limit)


async def test_events_read_backwards_are_those_read_forwards(log: Log, draft: MakeDraft) -> None:
    await filled(log, draft, 300, floor=40)
    assert await backwards(log, 40, 300) == (await forwards(log, 40, 300))[::-1]


@settings(max_examples=examples(25), suppress_health_check=FRESH_LOG)
@given(
    count=st.integers(0, 300),
    floor=st.integers(0, 50),
    limit=st.integers(1, 400),
    after=st.integers(0, 300),
)
async def test_reading_on_downwards_gives_every_event_once(
    new_log: NewLog, draft: MakeDraft, count: int, floor: int, limit: int, after: int
) -> None:  # fmt: skip
    assume(floor <= count)
    log = await filled(await new_log(), draft, count, floor)
    at, seen = log.head, []
    while at > after:
        page = await log.read_back(after, at, limit=limit)
        assert page.reached < at
        assert len(page.events) <= limit
        assert offsets(page) == list(range(at, max(page.reached, floor), -1))
        seen += offsets(page)
        at = page.reached
    assert at == min(after, log.head)
    assert seen == list(range(count, max(after, floor), -1))


@pytest.fixture
async def long_log(log: Log, draft: MakeDraft) -> Log:
    return await filled(log, draft, 150)


@settings(max_examples=examples(40), suppress_health_check=FRESH_LOG)
@given(
    wanted=scopes,
    allowed=st.lists(scopes, min_size=1, max_size=3).map(tuple),
    until=st.integers(1, 150),
    limit=st.integers(1, 60),
)
async def test_narrowing_backwards_leaves_out_nothing_that_is_wanted(
    long_log: Log, wanted: Scope, allowed: tuple[Scope, ...], until: int, limit: int
) -> None:  # fmt: skip
    hint = ScanHint(wanted, allowed, True)
    contains = wants(hint)
    page = await long_log.read_back(0, until, limit=limit, hint=hint)
    assert page.reached < until
    expected = [one for one in await forwards(long_log, page.reached, until) if contains(one)]
    assert [event for event in page.events if contains(event)] == expected[::-1]
    assert offsets(page) == sorted(set(offsets(page)), reverse=True)
    assert len(page.events) <= limit


async def test_a_selective_read_of_a_long_log_ends_and_finds_the_oldest(
    log: Log, draft: MakeDraft
) -> None:
    drafts = [draft(id="first", tenant="rare"), *(draft(id=f"e{n}") for n in range(9_000))]
    await log.append([drafts])
    rare = ScanHint(Scope(tenant=("rare",)), OPEN, True)
    assert [one.offset for one in await backwards(log, 0, 9_001, rare) if one.tenant == "rare"] == [
        1
    ]


async def test_pages_of_the_largest_events_stay_around_a_mebibyte_backwards(
    log: Log, draft: MakeDraft
) -> None:
    filler = "x" * (MAX_EVENT_BYTES - 200)
    await log.append([[draft(id=f"e{number}", data={"x": filler}) for number in range(30)]])
    at, seen = log.head, 0
    while at > 0:
        page = await log.read_back(0, at, limit=1000, hint=ScanHint(EVERYTHING, OPEN, True))
        assert page.reached < at
        assert sum(len(event.json) for event in page.events) < MIB + MAX_EVENT_BYTES
        seen += len(page.events)
        at = page.reached
    assert seen == 30


async def test_what_retention_has_deleted_counts_as_read(log: Log, draft: MakeDraft) -> None:
    await filled(log, draft, 100, floor=60)
    for after, until, read, reached in [
        (0, 100, range(100, 60, -1), 0),
        (59, 100, range(100, 60, -1), 59),
        (60, 61, range(61, 60, -1), 60),
        (0, 60, range(0), 0),
        (60, 60, range(0), 60),
        (70, 60, range(0), 60),
    ]:
        page = await log.read_back(after, until, limit=1000)
        assert (offsets(page), page.reached) == (list(read), reached), (after, until)
    for after, until in ((0, 59), (59, 59), (0, 0), (30, 10)):
        with pytest.raises(RetentionExceeded):
            await log.read_back(after, until, limit=1000)


async def test_retention_that_overtakes_a_reader_leaves_no_hole_and_ends_it(
    log: Log, draft: MakeDraft, clock: FakeClock
) -> None:
    await filled(log, draft, 300)

    async def trim() -> None:
        clock.step(1.0)
        await log.trim(int(clock.now() * 1_000_000), None)

    at, seen = log.head, []
    trimming = asyncio.create_task(trim())
    while at > 0:
        try:
            page = await log.read_back(0, at, limit=10)
        except RetentionExceeded:
            break
        seen += offsets(page)
        at = page.reached
        if len(seen) == 20:
            await trimming
    assert seen == list(range(300, 300 - len(seen), -1))


HOLDING = (
    '{"x":"Needle_1"}', '{"x":"a NEEDLE_1 b"}', r'{"x":"\u004eeedle_1"}', r'{"x":"n\u0065edle_1"}',
)  # fmt: skip
NOT_HOLDING = ('{"x":"needleX1"}', '{"x":"needle%1"}', '{"x":"nee","y":"dle_1"}', '{"x":"\u212a"}')


async def test_needles_leave_out_only_what_holds_them_in_no_way(log: Log) -> None:
    def draft(name: str, data: str) -> Draft:
        head = {"id": name, "category": "auth", "action": "a"}
        raw = orjson.dumps(head)[:-1] + b',"data":' + data.encode() + b"}"
        return decode_events([raw], new_ids(lambda: 0.0))[0]

    drafts = [draft(f"in{n}", data) for n, data in enumerate(HOLDING)]
    drafts += [draft(f"out{n}", data) for n, data in enumerate(NOT_HOLDING)]
    drafts += [draft(f"hay{n}", '{"x":"hay"}') for n in range(100)]
    await log.append([drafts])
    everything = Scope(category=("**",), reserved=False)
    hint = ScanHint(EVERYTHING, (everything,), needles=("needle_1",))
    there = (await log.read(0, log.head, limit=1000, hint=hint)).events
    back = await backwards(log, 0, log.head, hint)
    for events in (there, back[::-1]):
        names = [event.members()["id"] for event in events]
        assert [name for name in names if name.startswith("in")] == ["in0", "in1", "in2", "in3"]
        if not isinstance(log, MemoryLog) and events is there:
            assert len(names) == len(HOLDING), names
    # Where SQL means more than the scopes, the bytes of what lies outside are not looked at.
    loose = ScanHint(EVERYTHING, (Scope(category=("*.b", "auth")),), needles=("needle_1",))
    assert len((await log.read(0, log.head, limit=1000, hint=loose)).events) == len(drafts)


@pytest.mark.parametrize("word", ["2026", "10:0", "t1", "5z", "00"])
async def test_words_that_may_stand_in_times_are_no_needles_where_these_are_not_stored(
    log: Log, draft: MakeDraft, word: str
) -> None:
    await log.append([[draft(id=f"e{n}") for n in range(100)]])
    every = await forwards(log, 0, log.head)
    holding = [one.offset for one in every if word.encode() in one.json[40:].lower()]
    hint = ScanHint(EVERYTHING, OPEN, needles=(word,))
    found = offsets(await log.read(0, log.head, limit=1000, hint=hint))
    assert set(holding) <= set(found)
