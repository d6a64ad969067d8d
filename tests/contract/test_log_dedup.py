"""What every log promises about events that are sent again, and about ids that are taken."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from gateway.event import Draft, Event
from gateway.log.identity import KeyedValues, other_id
from gateway.log.ports import Appended, Log
from tests.support.memory_log import MemoryLog

MakeDraft = Callable[..., Draft]


async def everything(log: Log) -> list[Event]:
    return (await log.read(log.floor, log.head, limit=1000)).events


async def ids(log: Log) -> list[str]:
    return [event.members()["id"] for event in await everything(log)]


async def test_another_event_under_a_taken_id_stands_under_one_of_its_own(
    log: Log, draft: MakeDraft
) -> None:
    first = draft(id="x", tenant="t1", reason="first")
    second = draft(id="x", tenant="t1", reason="second", category="billing")
    assert await log.append([[first]]) == [Appended(1, 0, 1, 1)]
    assert await log.append([[second]]) == [Appended(1, 0, 2, 2, 1)]
    sent, other = await ids(log)
    assert sent == "x"
    assert re.fullmatch(r"x~[A-Z2-7]{16}", other)
    for name, reason in ((sent, "first"), (other, "second")):
        for tenant in (None, "t1"):
            [found] = await log.find(name, tenant)
            assert (found.members()["id"], found.members()["reason"]) == (name, reason)
        assert await log.find(name, "t2") == []


async def test_a_repeat_of_either_event_is_a_duplicate_where_that_event_stands(
    log: Log, draft: MakeDraft
) -> None:
    one, two, three = (draft(id="x", reason=reason) for reason in ("1", "2", "3"))
    await log.append([[one], [two]])
    assert await log.append([[two]]) == [Appended(0, 1, 2, 2)]
    assert await log.append([[one]]) == [Appended(0, 1, 1, 1)]
    # Within one batch, within one group of batches, and beside what is new.
    assert await log.append([[two, three, three, one], [three], [draft(id="y")]]) == [
        Appended(1, 3, 1, 3, 1), Appended(0, 1, 3, 3), Appended(1, 0, 4, 4),
    ]  # fmt: skip
    assert len(set(await ids(log))) == log.head == 4


async def test_other_content_in_one_batch_is_as_many_events(log: Log, draft: MakeDraft) -> None:
    batch = [draft(id="x", data={"n": number % 3}) for number in range(9)]
    assert await log.append([batch]) == [Appended(3, 6, 1, 3, 2)]
    assert [event.members()["data"]["n"] for event in await everything(log)] == [0, 1, 2]


async def test_ids_that_begin_alike_and_are_taken_stand_under_ids_of_their_own(
    log: Log, draft: MakeDraft
) -> None:
    sent = [
        [
            msgspec.structs.replace(draft(id=f"{'l' * 100}-{n}"), content=kind.encode())
            for n in range(10)
        ]
        for kind in ("first", "second")
    ]
    first, second = sent
    assert await log.append([first]) == [Appended(10, 0, 1, 10)]
    assert await log.append([second]) == [Appended(10, 0, 11, 20, 10)]
    assert await log.append([second]) == [Appended(0, 10, 11, 20)]
    names = await ids(log)
    assert len(set(names)) == 20
    if not isinstance(log, MemoryLog):
        # That makes a secret of its own. Each follows from what was sent, and no other is tried.
        value = KeyedValues(b"").content
        assert names[10:] == [other_id(one.id, value(one.content) or b"") for one in second]


async def test_a_long_id_is_cut_and_an_id_that_looks_made_is_one_like_any_other(
    log: Log, draft: MakeDraft
) -> None:
    long = "l" * 128
    await log.append([[draft(id=long), draft(id=long, reason="b"), draft(id='q"\\', reason="c")]])
    await log.append([[draft(id='q"\\', reason="d")]])
    names = await ids(log)
    assert re.fullmatch(r"l{100}~[A-Z2-7]{16}", names[1])
    assert names[3].startswith('q"\\~')
    # Somebody sends the id that was made, with the same content and with another.
    literal = draft(id=names[1], reason="e")
    [appended] = await log.append([[literal]])
    assert (appended.accepted, appended.conflicts) == (1, 1)
    assert (await log.append([[literal]]))[0].duplicates == 1
    [found] = await log.find(names[1], None)
    assert found.members()["reason"] == "b"
    assert len(set(await ids(log))) == 5


async def test_a_repeat_is_known_after_retention_took_the_event_that_had_the_id(
    log: Log, draft: MakeDraft
) -> None:
    first, second = draft(id="x", reason="1"), draft(id="x", reason="2")
    await log.append([[first], [second]])
    kept = len((await log.read(1, 2, limit=1)).events[0].json) + 40
    assert await log.trim(None, kept) == 1
    assert await log.append([[second]]) == [Appended(0, 1, 2, 2)]
    [appended] = await log.append([[draft(id="x", reason="3")]])
    assert (appended.accepted, appended.first) == (1, 3)
    # With the rest gone, the id is free again.
    assert await log.trim(None, 0) == 2
    assert await log.append([[second]]) == [Appended(1, 0, 4, 4)]
    assert await log.find("x", None) != []


async def test_the_id_alone_decides_for_what_has_no_content(log: Log, draft: MakeDraft) -> None:
    bare = msgspec.structs.replace(draft(id="x", reason="1"), content=b"")
    assert (await log.append([[bare]]))[0].accepted == 1
    # Nothing tells where the other one stands.
    assert await log.append([[draft(id="y")]]) == [Appended(1, 0, 2, 2)]
    assert await log.append([[draft(id="x", reason="2")]]) == [Appended(0, 1, 2, 2)]
    assert await log.append([[bare]]) == [Appended(0, 1, 2, 2)]
    assert (await log.append([[bare, draft(id="y")]]))[0] == Appended(0, 2, 2, 2)


async def test_batches_of_any_size_are_whole_and_in_order(log: Log, draft: MakeDraft) -> None:
    sizes = (2, 3, 5, 21, 63, 85, 341)
    batches = [[draft(id=f"{size}-{n}") for n in range(size)] for size in sizes]
    results = await log.append(batches)
    assert [result.accepted for result in results] == list(sizes)
    assert await ids(log) == [one.id for batch in batches for one in batch]
    assert [one.duplicates for one in await log.append(batches)] == list(sizes)


async def test_what_has_no_content_takes_nothing_of_the_same_id_with_it(
    log: Log, draft: MakeDraft
) -> None:
    one, two = draft(id="x", reason="1"), draft(id="x", reason="2")
    bare = msgspec.structs.replace(draft(id="x", reason="3"), content=b"")
    assert (await log.append([[one, two, bare]]))[0].accepted == 2
    assert [event.members()["reason"] for event in await everything(log)] == ["1", "2"]
