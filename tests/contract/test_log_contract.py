"""What every log promises of `append`: order, offsets, duplicates, time, wake-ups."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.clock import parse_rfc3339
from gateway.cursor import format_cursor, parse_cursor
from gateway.event import Draft, Event
from gateway.log.ports import Appended, Log, Page
from tests.support.examples import examples

if TYPE_CHECKING:
    from tests.conftest import FakeClock

MakeDraft = Callable[..., Draft]
NewLog = Callable[[], Awaitable[Log]]


async def everything(log: Log) -> list[Event]:
    events: list[Event] = []
    reached = log.floor
    while reached < log.head:
        page = await log.read(reached, log.head, limit=1000)
        assert page.reached > reached
        events += page.events
        reached = page.reached
    return events


def recorded(event: Event) -> int:
    at = event.recorded_at()
    assert at == parse_rfc3339(event.members()["recorded_at"])
    return at


async def test_an_empty_log_answers_everything_with_nothing(log: Log) -> None:
    woken: list[int] = []
    log.on_append(lambda: woken.append(log.head))
    assert (log.head, log.floor) == (0, 0)
    assert await log.read(0, 0, limit=10) == Page([], 0)
    assert await log.read(0, 100, limit=10) == Page([], 0)
    assert await log.find("e1", None) == []
    assert await log.last_before(2**62) == 0
    assert await log.last_before(-1) == 0
    assert await log.trim(2**62, 0) == 0
    assert await log.append([]) == []
    assert await log.append([[], []]) == [Appended(0, 0, 0, 0)] * 2
    assert log.degraded_reason is None
    assert (log.head, log.floor, woken) == (0, 0, [])
    assert parse_cursor(format_cursor(log.epoch, 0)) == (log.epoch, 0)


async def test_offsets_are_dense_and_in_the_order_of_batches_and_items(
    log: Log, draft: MakeDraft
) -> None:
    assert await log.append([[draft(id="a")]]) == [Appended(1, 0, 1, 1)]
    group = [[draft(id="b"), draft(id="c")], [], [draft(id="d")]]
    assert await log.append(group) == [
        Appended(2, 0, 2, 3), Appended(0, 0, 0, 0), Appended(1, 0, 4, 4),
    ]  # fmt: skip
    assert log.head == 4
    events = await everything(log)
    assert [(event.offset, event.members()["id"]) for event in events] == [
        (1, "a"), (2, "b"), (3, "c"), (4, "d"),
    ]  # fmt: skip


ODD = [
    "",
    "\x00",
    "a\x00b",
    "'",
    '"',
    "\\",
    "\x1b[0m",
    "\u2028",
    "\ufeff",
    "\uffff",
    "\U0010ffff",
    "é",
]


async def test_an_event_reads_as_its_draft_with_cursor_and_time(
    log: Log, clock: FakeClock, draft: MakeDraft
) -> None:
    drafts = [
        draft(
            id=f"e{number}", tenant="t.1", category="a.b", action="Do:x", outcome="denied",
            severity=4, actor={"id": odd}, targets=[{"urn": "r/ü'\"\\\U0010ffff"}, {"urn": "s"}],
            data={"odd": odd}, reason=odd,
        )
        for number, odd in enumerate(ODD)
    ]  # fmt: skip
    await log.append([drafts])
    # One by one, as a store may read few events otherwise than many, and by id.
    singly = [(await log.read(at, at + 1, limit=1)).events[0] for at in range(len(drafts))]
    by_id = [(await log.find(one.id, None))[0] for one in drafts]
    assert await everything(log) == singly == by_id
    for offset, (event, one) in enumerate(zip(singly, drafts, strict=True), 1):
        cursor = format_cursor(log.epoch, offset)
        stamp = b"2023-11-14T22:13:20.000000Z"
        assert event.cursor == cursor.encode()
        assert event.json == b'{"cursor":"%b",%b' % (event.cursor, one.stored(stamp))
        assert event.members()["data"] == {"odd": ODD[offset - 1]}
        for column in ("tenant", "category", "action", "outcome", "severity", "actor", "resources"):
            assert getattr(event, column) == getattr(one, column), column


async def test_many_events_at_once_read_like_one_by_one(log: Log, draft: MakeDraft) -> None:
    drafts = [
        draft(id=f"e{number}", actor={"id": ODD[number % len(ODD)]}, data={"n": [number] * 20})
        for number in range(1200)
    ]
    assert await log.append([drafts[:700], drafts[700:]]) == [
        Appended(700, 0, 1, 700), Appended(500, 0, 701, 1200),
    ]  # fmt: skip
    events = await everything(log)
    assert [event.offset for event in events] == list(range(1, 1201))
    assert [event.actor for event in events] == [one.actor for one in drafts]
    for event in events[::100]:
        assert (await log.read(event.offset - 1, event.offset, limit=9)).events == [event]


async def test_an_id_is_taken_once_per_tenant(log: Log, draft: MakeDraft) -> None:
    first = draft(id="x", tenant="t1")
    assert await log.append([[first]]) == [Appended(1, 0, 1, 1)]
    assert await log.append([[draft(id="x", tenant="t1")]]) == [Appended(0, 1, 1, 1)]
    assert await log.append([[draft(id="x", tenant="t2")]]) == [Appended(1, 0, 2, 2)]
    assert log.head == 2


async def test_duplicates_count_where_they_stand(log: Log, draft: MakeDraft) -> None:
    a, b, c, d = (draft(id=name) for name in "abcd")
    assert await log.append([[a, b, a, b, b]]) == [Appended(2, 3, 1, 2)]
    assert await log.append([[c, a], [c, d], [d, b]]) == [
        Appended(1, 1, 1, 3), Appended(1, 1, 3, 4), Appended(0, 2, 2, 4),
    ]  # fmt: skip
    assert [event.members()["id"] for event in await everything(log)] == ["a", "b", "c", "d"]


async def test_an_append_of_duplicates_alone_wakes_nobody(log: Log, draft: MakeDraft) -> None:
    await log.append([[draft(id="a")]])
    woken: list[int] = []
    log.on_append(lambda: woken.append(log.head))
    await log.append([[draft(id="a")], [draft(id="a")]])
    assert (woken, log.head) == ([], 1)


async def test_listeners_are_called_after_the_head_has_moved(log: Log, draft: MakeDraft) -> None:
    heads: list[tuple[str, int]] = []
    log.on_append(lambda: heads.append(("one", log.head)))
    log.on_append(lambda: heads.append(("two", log.head)))
    await log.append([[draft(), draft()], [draft()]])
    assert heads == [("one", 3), ("two", 3)]
    await log.append([[draft()]])
    assert heads[2:] == [("one", 4), ("two", 4)]


async def test_asking_for_new_events_now_loses_and_repeats_none(log: Log, draft: MakeDraft) -> None:
    log.poll_now()
    await log.append([[draft(), draft()]])
    log.poll_now()
    await log.catch_up()
    assert (log.head, len(await everything(log)), log.renamed) == (2, 2, 0)


async def test_what_a_listener_finds_at_the_head_can_be_read(log: Log, draft: MakeDraft) -> None:
    seen: list[asyncio.Task[Page]] = []
    log.on_append(lambda: seen.append(asyncio.create_task(log.read(0, log.head, limit=10))))
    await log.append([[draft(id="a"), draft(id="b")]])
    assert [len((await task).events) for task in seen] == [2]


async def test_recorded_at_never_decreases_even_when_the_clock_steps_back(
    log: Log, clock: FakeClock, draft: MakeDraft
) -> None:
    for step in (0.0, 1.5, -3600.0, 0.25, 3600.0, -0.000_001):
        clock.step(step)
        await log.append([[draft(), draft()]])
    times = [recorded(event) for event in await everything(log)]
    assert times == sorted(times)
    assert (times[0], times[2], times[4]) == (
        1_700_000_000_000_000, 1_700_000_001_500_000, 1_700_000_001_500_000,
    )  # fmt: skip


async def test_time_is_that_of_the_producer_or_else_recorded_at(log: Log, draft: MakeDraft) -> None:
    await log.append([[draft(), draft(time="2020-01-01T00:00:00Z")]])
    without, given_ = [event.members() for event in await everything(log)]
    assert without["time"] == without["recorded_at"] == "2023-11-14T22:13:20.000000Z"
    assert given_["time"] == "2020-01-01T00:00:00.000000Z"
    assert given_["recorded_at"] == "2023-11-14T22:13:20.000000Z"


async def test_concurrent_appends_take_turns(log: Log, draft: MakeDraft) -> None:
    ids = [[f"{task}-{item}" for item in range(3)] for task in range(30)]
    results = await asyncio.gather(
        *(log.append([[draft(id=name) for name in names], [draft(id="same")]]) for names in ids)
    )
    assert sum(batch.accepted for result in results for batch in result) == log.head == 91
    events = await everything(log)
    assert [event.offset for event in events] == list(range(1, 92))
    stands = {event.members()["id"]: event.offset for event in events}
    for names, [batch, same] in zip(ids, results, strict=True):
        assert [stands[name] for name in names] == list(range(batch.first, batch.last + 1))
        assert same.first == same.last == stands["same"]


async def test_an_append_whose_caller_is_gone_does_no_harm(log: Log, draft: MakeDraft) -> None:
    for number in range(20):
        task = asyncio.create_task(log.append([[draft(id=f"gone{number}")]]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await log.append([[draft(id=f"stays{number}")]])
    events = await everything(log)
    assert [event.offset for event in events] == list(range(1, log.head + 1))
    names = [event.members()["id"] for event in events]
    assert len(names) == len(set(names))
    assert {f"stays{number}" for number in range(20)} <= set(names)


names = st.sampled_from(["a", "b", "c", "d"])
items = st.tuples(names, st.sampled_from(["t1", "t2"]))
groups = st.lists(st.lists(items, max_size=5), max_size=3)


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(appends=st.lists(groups, max_size=4))
async def test_any_appends_leave_each_identity_once_in_the_order_of_its_arrival(
    new_log: NewLog, draft: MakeDraft, appends: list[list[list[tuple[str, str]]]]
) -> None:
    log = await new_log()
    stands: dict[Any, int] = {}
    for group in appends:
        expected = []
        for batch in group:
            fresh = [item for item in dict.fromkeys(batch) if item not in stands]
            for item in fresh:
                stands[item] = len(stands) + 1
            places = [stands[item] for item in batch]
            spread = (min(places), max(places)) if places else (0, 0)
            expected.append(Appended(len(fresh), len(batch) - len(fresh), *spread))
        drafts = [[draft(id=name, tenant=tenant) for name, tenant in batch] for batch in group]
        assert await log.append(drafts) == expected
    events = await everything(log)
    assert {(event.members()["id"], event.tenant): event.offset for event in events} == stands
    assert log.head == len(events) == len(stands)
    assert all(event.json == orjson.dumps(event.members()) for event in events)
