"""What every log promises of `trim`: the oldest first, in bounded steps, and the log goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.event import Draft
from gateway.log.ports import Appended, Log, Page, RetentionExceeded
from tests.support.examples import examples

if TYPE_CHECKING:
    from tests.conftest import FakeClock

MakeDraft = Callable[..., Draft]
NewLog = Callable[[], Awaitable[Log]]
NOW = 1_700_000_000_000_000
STAMP = b"2023-11-14T22:13:20.000000Z"


def stored_bytes(drafts: list[Draft]) -> int:
    """The stored JSON without the `cursor` member, which every event has alike."""
    return sum(len(one.stored(STAMP)) for one in drafts)


async def retained(log: Log) -> list[int]:
    offsets: list[int] = []
    at = log.floor
    while at < log.head:
        page = await log.read(at, log.head, limit=10_000)
        offsets += [event.offset for event in page.events]
        at = page.reached
    return offsets


async def test_events_recorded_before_a_time_are_deleted(
    log: Log, clock: FakeClock, draft: MakeDraft
) -> None:
    for _ in range(5):
        await log.append([[draft(), draft()]])
        clock.step(1)
    assert await log.trim(NOW, None) == 0
    assert await log.trim(NOW + 2_000_000, None) == 4
    assert (log.floor, log.head) == (4, 10)
    assert await retained(log) == [5, 6, 7, 8, 9, 10]
    assert await log.trim(NOW + 2_000_000, None) == 0
    assert await log.trim(NOW + 2_000_001, None) == 2
    assert log.floor == 6


async def test_the_producers_time_does_not_count_for_retention(log: Log, draft: MakeDraft) -> None:
    await log.append([[draft(time="1999-01-01T00:00:00Z"), draft(time="2099-01-01T00:00:00Z")]])
    assert await log.trim(NOW, None) == 0
    assert await log.trim(NOW + 1, None) == 2


async def test_the_oldest_go_until_the_size_is_met(log: Log, draft: MakeDraft) -> None:
    drafts = [draft(id=f"e{number}", data={"x": "y" * (number * 10)}) for number in range(10)]
    await log.append([drafts])
    assert await log.trim(None, stored_bytes(drafts)) == 0
    assert await log.trim(None, stored_bytes(drafts) - 1) == 1
    assert await log.trim(None, stored_bytes(drafts[7:])) == 6
    assert await retained(log) == [8, 9, 10]
    assert await log.trim(None, 0) == 3
    assert await log.trim(None, 0) == 0


async def test_without_a_bound_nothing_is_deleted(log: Log, draft: MakeDraft) -> None:
    await log.append([[draft()]])
    assert await log.trim(None, None) == 0
    assert (log.floor, log.head) == (0, 1)


async def test_either_bound_is_reason_enough(log: Log, clock: FakeClock, draft: MakeDraft) -> None:
    drafts = [draft(id=f"e{number}") for number in range(4)]
    await log.append([drafts[:2]])
    clock.step(10)
    await log.append([drafts[2:]])
    assert await log.trim(NOW + 1, stored_bytes(drafts[3:])) == 3
    assert await retained(log) == [4]


async def test_deleting_much_is_done_in_bounded_steps(log: Log, draft: MakeDraft) -> None:
    one = [draft(id=f"e{number}") for number in range(12_001)]
    await log.append([one])
    steps = []
    while deleted := await log.trim(NOW + 1, None):
        steps.append(deleted)
        assert log.floor == sum(steps)
    assert sum(steps) == 12_001
    assert len(steps) > 1
    assert max(steps) <= 10_000


async def test_a_log_that_lost_all_its_events_goes_on_behind_them(
    log: Log, clock: FakeClock, draft: MakeDraft
) -> None:
    await log.append([[draft(id="a"), draft(id="b"), draft(id="c")]])
    assert await log.trim(None, 0) == 3
    assert (log.floor, log.head) == (3, 3)
    assert await log.read(3, 100, limit=10) == Page([], 3)
    assert await log.last_before(0) == await log.last_before(2**62) == 3
    assert await log.find("a", None) == []
    with pytest.raises(RetentionExceeded):
        await log.read(2, 3, limit=10)
    clock.step(-3600)
    assert await log.append([[draft(id="d"), draft(id="a")]]) == [Appended(2, 0, 4, 5)]
    events = (await log.read(3, 5, limit=10)).events
    assert [event.offset for event in events] == [4, 5]
    assert events[0].members()["recorded_at"] == STAMP.decode(), "the clock went back, not the log"
    assert [event.offset for event in await log.find("a", None)] == [5]


async def test_an_id_may_come_again_once_its_event_is_deleted(log: Log, draft: MakeDraft) -> None:
    sizes = stored_bytes([draft(id="b")])
    await log.append([[draft(id="a"), draft(id="b")]])
    await log.trim(None, sizes)
    assert await log.append([[draft(id="a"), draft(id="b")]]) == [Appended(1, 1, 2, 3)]


async def test_appending_and_deleting_at_once_keeps_count_of_the_bytes(
    log: Log, draft: MakeDraft
) -> None:
    drafts = [[draft(id=f"{n}-{item}") for item in range(200)] for n in range(12)]
    await log.append([drafts[0]])
    for batch in drafts[1:]:
        half = stored_bytes(batch) // 2
        # In every order: what one of them did must not be lost on the other.
        await asyncio.gather(
            log.trim(None, half), log.append([batch[:100]]), log.trim(None, half),
            log.append([batch[100:]]),
        )  # fmt: skip
    offsets = await retained(log)
    assert offsets == list(range(log.floor + 1, 12 * 200 + 1))
    left = [one for batch in drafts for one in batch][log.floor :]
    assert await log.trim(None, stored_bytes(left)) == 0
    assert await log.trim(None, stored_bytes(left) - 1) == 1


async def test_deletions_at_once_never_move_the_floor_back(log: Log, draft: MakeDraft) -> None:
    drafts = [draft(id=f"e{number}") for number in range(50)]
    await log.append([drafts])
    bounds = [stored_bytes(drafts[keep:]) for keep in (40, 10, 20)]
    assert sum(await asyncio.gather(*(log.trim(None, most) for most in bounds))) == 40
    assert log.floor == 40


@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=20),
    most=st.integers(0, 5000),
    age=st.integers(-1, 21),
)
async def test_exactly_the_oldest_that_are_too_old_or_too_much_are_deleted(
    new_log: NewLog, clock: FakeClock, draft: MakeDraft, sizes: list[int], most: int, age: int
) -> None:
    log = await new_log()
    began = clock.now()
    drafts = [draft(id=f"e{n}", data={"x": "y" * size}) for n, size in enumerate(sizes)]
    for one in drafts:
        await log.append([[one]])
        clock.step(1)
    expected = 0
    while expected < len(drafts) and (expected < age or stored_bytes(drafts[expected:]) > most):
        expected += 1
    assert await log.trim(int((began + age) * 1_000_000), most) == expected
    assert (log.floor, log.head) == (expected, len(drafts))
    assert await retained(log) == list(range(expected + 1, len(drafts) + 1))
