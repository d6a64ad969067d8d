"""Questions between the processes of a gateway, over the notes of every key store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from gateway.access.keys.key_store import KeyStore
from gateway.clock import SystemClock
from gateway.errors import TooManyRequests
from gateway.fleet.processes import ANSWER, PROCESS, QUESTION, Process, Processes
from tests.support.machine_time import becomes, patience

Connect = Callable[[], Awaitable[KeyStore]]


class OwnClock(SystemClock):
    """The time of the machine, and what was added to it."""

    added = 0.0

    def now(self) -> float:
        return super().now() + self.added


@pytest.fixture
def time() -> OwnClock:
    return OwnClock()


@pytest.fixture
async def process(
    connect_keys: Connect, time: OwnClock
) -> Callable[[str], Awaitable[tuple[Processes, list[bytes]]]]:
    """Makes a process that answers `ask` with its name, and what it was asked."""

    async def make(name: str) -> tuple[Processes, list[bytes]]:
        own = Process.new(name, 0, 1)
        processes = Processes(own, await connect_keys(), time, alone=False)
        asked: list[bytes] = []

        async def answering(body: bytes) -> bytes:
            asked.append(body)
            return b'"%b"' % name.encode()

        processes.answer("ask", answering)
        await processes.poll()
        return processes, asked

    return make


Make = Callable[[str], Awaitable[tuple[Processes, list[bytes]]]]


@asynccontextmanager
async def answering(*others: Processes) -> AsyncIterator[None]:
    """Others that answer meanwhile."""

    async def polling(one: Processes) -> None:
        while True:
            await one.poll()
            await asyncio.sleep(0.01)

    running = [asyncio.create_task(polling(one)) for one in others]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def all_of(asking: Processes, count: int) -> set[bytes]:
    """Answers of so many, which a busy machine may give late."""
    async with asyncio.timeout(patience(20)):
        while True:
            replies = await asking.ask("ask", b"{}")
            if not replies.missing:
                assert len(replies.bodies) == count
                return set(replies.bodies)


async def test_all_processes_answer_and_leave_nothing(process: Make, keys: KeyStore) -> None:
    one, _ = await process("one")
    two, _ = await process("two")
    three, _ = await process("three")
    async with answering(two, three):
        assert await all_of(one, 3) == {b'"one"', b'"two"', b'"three"'}
    async with answering(one, three):
        assert await all_of(two, 3) == {b'"one"', b'"two"', b'"three"'}
    assert await keys.notes(QUESTION) == {}
    assert await keys.notes(ANSWER) == {}
    assert set(await keys.notes(PROCESS)) == {"one", "two", "three"}


async def test_one_process_is_asked_alone(process: Make) -> None:
    one, asked_one = await process("one")
    two, asked_two = await process("two")
    three, asked_three = await process("three")
    async with answering(two, three), asyncio.timeout(patience(20)):
        while (await one.ask("ask", b'{"n":1}', to=two.own)).bodies != [b'"two"']:
            pass
    assert set(asked_two) == {b'{"n":1}'}
    assert (asked_one, asked_three) == ([], [])
    assert (await one.ask("ask", b"{}", to=one.own)).bodies == [b'"one"']


async def test_who_does_not_answer_is_named_and_does_not_answer_later(
    process: Make, keys: KeyStore
) -> None:
    one, _ = await process("one")
    silent, asked = await process("silent")
    replies = await one.ask("ask", b"{}")
    assert (replies.bodies, [gone.name for gone in replies.missing]) == ([b'"one"'], ["silent"])
    # It wakes up.
    await silent.poll()
    assert asked == []
    assert await keys.notes(ANSWER) == {}


async def test_a_question_that_has_passed_is_not_answered(
    process: Make, keys: KeyStore, time: OwnClock
) -> None:
    one, _ = await process("one")
    other, asked = await process("other")
    asking = asyncio.create_task(one.ask("ask", b"{}"))
    await becomes(lambda: keys.notes(QUESTION), bool)
    time.added = 5.0
    await other.poll()
    assert asked == []
    assert [gone.name for gone in (await asking).missing] == ["other"]


async def test_what_another_version_has_written_harms_nobody(process: Make, keys: KeyStore) -> None:
    one, _ = await process("one")
    two, _ = await process("two")
    for kind, name in ((PROCESS, "newer"), (QUESTION, "open"), (ANSWER, "x")):
        await keys.update_notes(kind, {name: lambda known: b'{"as":"a newer version"}'})
    async with answering(two):
        assert await all_of(one, 2) == {b'"one"', b'"two"'}
    three, _ = await process("three")
    assert set(await keys.notes(PROCESS)) == {"one", "two", "three"}
    assert (await three.ask("ask", b"{}", to=three.own)).missing == []


async def test_an_answer_of_another_version_is_none(process: Make) -> None:
    one, _ = await process("one")
    two, _ = await process("two")
    async with answering(two):
        await all_of(one, 2)
        replies = await one.ask("ask", b"{}")
    said, unknown = replies.read(msgspec.json.Decoder(int))
    assert (said, {gone.name for gone in unknown}) == ([], {"one", "two"})
    said_all, unknown = replies.read(msgspec.json.Decoder(str))
    assert (len(said_all) + len(unknown), "one" in said_all) == (2, True)


async def test_a_question_of_another_version_stops_nobody(process: Make) -> None:
    one, _ = await process("one")
    two, _ = await process("two")

    async def reading(body: bytes) -> bytes:
        return msgspec.json.encode(msgspec.json.decode(body, type=int))

    one.answer("read", reading)
    two.answer("read", reading)
    async with answering(two):
        assert (await one.ask("read", b'"text"', to=two.own)).bodies == []
        assert await all_of(one, 2) == {b'"one"', b'"two"'}


async def test_a_party_with_many_questions_holds_up_no_other(process: Make) -> None:
    one, _ = await process("one")
    await process("silent")
    many = [asyncio.create_task(one.ask("ask", b"{}", by="many")) for _ in range(9)]
    # They have begun, or wait.
    await asyncio.sleep(0)
    await one.ask("ask", b"{}", by="other")
    assert sum(task.done() for task in many) <= 3
    for task in many:
        task.cancel()
    await asyncio.gather(*many, return_exceptions=True)


async def test_of_one_party_only_so_many_questions_wait(process: Make) -> None:
    one, _ = await process("one")
    await process("silent")
    many = [asyncio.create_task(one.ask("ask", b"{}", by="many")) for _ in range(10)]
    await asyncio.wait(many, return_when=asyncio.FIRST_COMPLETED)
    for task in many:
        task.cancel()
    ended = await asyncio.gather(*many, return_exceptions=True)
    assert any(isinstance(one, TooManyRequests) for one in ended)
    assert (await one.ask("ask", b"{}", by="many")).bodies == [b'"one"'], "there is room again"


async def test_a_process_that_ends_is_not_asked_any_more(process: Make) -> None:
    one, _ = await process("one")
    two, _ = await process("two")
    await two.close()
    assert (await one.ask("ask", b"{}")).missing == []
    assert await one.named(two.own.tag) is None
    assert await one.named(one.own.tag) == one.own


async def test_a_process_that_is_started_again_takes_its_place(process: Make) -> None:
    one, _ = await process("one")
    before, _ = await process("two")
    after, _ = await process("two")
    # The end of the one before comes late.
    await before.close()
    assert await one.named(before.own.tag) is None
    found = await one.named(after.own.tag)
    assert found is not None
    assert found.name == "two"


async def test_a_process_that_ended_without_a_word_is_forgotten(
    process: Make, keys: KeyStore, time: OwnClock
) -> None:
    one, _ = await process("one")
    await process("gone")
    time.added = 110.0
    assert [gone.name for gone in (await one.ask("ask", b"{}")).missing] == ["gone"]
    time.added = 130.0
    assert (await one.ask("ask", b"{}")).missing == []
    newcomer, _ = await process("newcomer")
    assert "gone" not in await keys.notes(PROCESS)
    assert await newcomer.named(newcomer.own.tag) is not None
