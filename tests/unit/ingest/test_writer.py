"""The writer: who waits shares an append, and what becomes of it reaches each of them alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from gateway.errors import Unavailable
from gateway.event import Draft
from gateway.ingest.writer import Writer
from gateway.log.ports import Appended
from tests.support.machine_time import patience
from tests.support.memory_log import MemoryLog

if TYPE_CHECKING:
    from tests.conftest import FakeClock

MakeDraft = Callable[..., Draft]


class GatedLog(MemoryLog):
    """A log whose appends wait until the test lets them through, or makes them fail."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.groups: list[int] = []
        self.failures: list[BaseException] = []
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.at_once = 0

    async def append(self, batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        self.groups.append(sum(map(len, batches)))
        self.at_once += 1
        assert self.at_once == 1, "one append at a time"
        self.entered.set()
        try:
            await self.gate.wait()
            if self.failures:
                raise self.failures.pop(0)
            return await super().append(batches)
        finally:
            self.at_once -= 1
            self.entered.clear()


@pytest.fixture
def log(clock: FakeClock) -> GatedLog:
    return GatedLog(clock)


@asynccontextmanager
async def writing(log: GatedLog, events: int = 1000, size: int = 1 << 20) -> AsyncIterator[Writer]:
    """A running writer; at the end it has drained, and holds nothing more."""
    writer = Writer(log, queue_events=events, queue_bytes=size)
    running = asyncio.create_task(writer.run())
    yield writer
    log.gate.set()
    writer.close()
    await asyncio.wait_for(running, patience(10))


async def in_flight(
    log: GatedLog, writer: Writer, batch: Sequence[Draft]
) -> asyncio.Task[Appended]:
    """A request whose append is on its way to disk."""
    request = asyncio.create_task(writer.append(batch))
    await asyncio.wait_for(log.entered.wait(), patience(10))
    return request


async def queued(calls: Sequence[Awaitable[Any]]) -> list[asyncio.Task[Any]]:
    """Requests that wait behind the one in flight."""
    requests = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    return requests


def named(draft: MakeDraft, *names: str) -> list[Draft]:
    return [draft(id=name) for name in names]


async def test_requests_that_wait_share_the_next_append(log: GatedLog, draft: MakeDraft) -> None:
    async with writing(log) as writer:
        first = await in_flight(log, writer, named(draft, "a"))
        rest = await queued([writer.append(named(draft, f"b{n}", f"c{n}", "a")) for n in range(50)])
        log.gate.set()
        assert await first == Appended(1, 0, 1, 1)
        results = await asyncio.gather(*rest)
    assert log.groups == [1, 150]
    assert results == [Appended(2, 1, 1, 2 * n + 3) for n in range(50)]
    assert log.head == 101


async def test_a_lone_request_is_not_held_back(log: GatedLog, draft: MakeDraft) -> None:
    log.gate.set()
    async with writing(log) as writer:
        for number in range(3):
            assert (await writer.append([draft()])).first == number + 1
    assert log.groups == [1, 1, 1]


@pytest.mark.parametrize(("more", "least", "most"), [(7, 8, 8), (200, 64, 80)])
async def test_requests_that_are_read_now_share_an_append(
    more: int, least: int, most: int, log: GatedLog, draft: MakeDraft
) -> None:
    """Where the group before was shared: each round of the loop reads one. Some are enough."""
    log.gate.set()
    loop = asyncio.get_running_loop()
    stored = [loop.create_future() for _ in range(more + 1)]

    def read(number: int) -> None:
        writer.put([[draft(id=f"c{number}")]], stored[number])
        if number < more:
            loop.call_soon(read, number + 1)

    async with writing(log) as writer:
        await asyncio.gather(*[writer.append([draft(id=name)]) for name in ("a", "b")])
        read(0)
        await asyncio.wait_for(asyncio.gather(*stored), patience(10))
    assert log.groups[0] == 2
    assert least <= log.groups[1] <= most
    assert log.head == 2 + len(stored)


async def test_batches_appended_together_share_their_fate(log: GatedLog, draft: MakeDraft) -> None:
    log.gate.set()
    log.failures = [Unavailable("away")]
    together = [named(draft, "a", "b"), [], named(draft, "c", "a")]
    async with writing(log) as writer:
        with pytest.raises(Unavailable, match="away"):
            await writer.append_together(together)
        assert log.head == 0
        assert await writer.append_together(together) == [
            Appended(2, 0, 1, 2), Appended(0, 0, 0, 0), Appended(1, 1, 1, 3),
        ]  # fmt: skip


async def test_an_empty_batch_is_answered(log: GatedLog) -> None:
    log.gate.set()
    async with writing(log) as writer:
        assert await writer.append([]) == Appended(0, 0, 0, 0)


async def test_requests_are_stored_in_the_order_of_their_arrival(
    log: GatedLog, draft: MakeDraft
) -> None:
    async with writing(log) as writer:
        first = await in_flight(log, writer, named(draft, "e0"))
        rest = await queued([writer.append(named(draft, f"e{n}")) for n in range(1, 20)])
        log.gate.set()
        assert [(await request).first for request in [first, *rest]] == list(range(1, 21))


async def test_one_append_has_a_bounded_number_of_events(log: GatedLog, draft: MakeDraft) -> None:
    batch = [draft(id=f"e{number}") for number in range(2_000)]
    async with writing(log, events=100_000, size=1 << 30) as writer:
        first = await in_flight(log, writer, named(draft, "a"))
        rest = await queued([writer.append(batch) for _ in range(5)])
        large = await queued([writer.append([draft(id=f"l{n}") for n in range(9_000)])])
        log.gate.set()
        await asyncio.gather(first, *rest, *large)
    assert sum(log.groups) == 19_001
    assert max(log.groups) == 9_000, "alone, as it is larger than a group"
    assert len(log.groups) >= 4


async def test_one_append_has_a_bounded_number_of_bytes(log: GatedLog, draft: MakeDraft) -> None:
    largest = [draft(id=f"e{number}", data={"x": "y" * 250_000}) for number in range(20)]
    async with writing(log, size=1 << 30) as writer:
        first = await in_flight(log, writer, named(draft, "a"))
        rest = await queued([writer.append(largest) for _ in range(6)])
        log.gate.set()
        await asyncio.gather(first, *rest)
    assert log.groups == [1, 60, 60], "at most 16 MiB each"


@pytest.mark.parametrize(("events", "size"), [(10, 1 << 20), (1000, 10 * 120)])
async def test_a_full_queue_refuses_and_has_room_again_later(
    log: GatedLog, draft: MakeDraft, events: int, size: int
) -> None:
    async with writing(log, events, size) as writer:
        first = await in_flight(log, writer, [draft()])
        requests = await queued([writer.append([draft()]) for _ in range(50)])
        waiting = [request for request in requests if not request.done()]
        assert 1 < len(waiting) <= 10
        for refused in requests[len(waiting) :]:
            with pytest.raises(Unavailable) as caught:
                await refused
            assert caught.value.code == "write_queue_full"
            assert (caught.value.status, caught.value.retry_after) == (503, 1)
        log.gate.set()
        await asyncio.gather(first, *waiting)
        # What was stored has made room.
        for _ in range(3):
            await asyncio.gather(*(writer.append([draft()]) for _ in range(5)))
    assert log.head == 1 + len(waiting) + 15


async def test_a_batch_larger_than_the_queue_is_let_in_when_nobody_waits(
    log: GatedLog, draft: MakeDraft
) -> None:
    async with writing(log, events=10) as writer:
        large = await in_flight(log, writer, [draft() for _ in range(30)])
        [second] = await queued([writer.append([draft() for _ in range(20)])])
        with pytest.raises(Unavailable):
            await writer.append([draft()])
        log.gate.set()
        assert (await large).accepted == 30
        assert (await second).accepted == 20


async def test_closing_stores_what_waits_and_refuses_what_comes(
    log: GatedLog, draft: MakeDraft
) -> None:
    writer = Writer(log, queue_events=100, queue_bytes=1 << 20)
    running = asyncio.create_task(writer.run())
    first = await in_flight(log, writer, [draft()])
    rest = await queued([writer.append([draft()]) for _ in range(5)])
    writer.close()
    with pytest.raises(Unavailable) as caught:
        await writer.append([draft()])
    assert caught.value.code == "stopping"
    assert not running.done()
    log.gate.set()
    await asyncio.wait_for(running, patience(10))
    assert [request.done() for request in [first, *rest]] == [True] * 6
    assert log.head == 6


async def test_an_idle_writer_closes_at_once(log: GatedLog) -> None:
    writer = Writer(log, queue_events=100, queue_bytes=1 << 20)
    running = asyncio.create_task(writer.run())
    await asyncio.sleep(0)
    writer.close()
    await asyncio.wait_for(running, patience(10))
    late = Writer(log, queue_events=100, queue_bytes=1 << 20)
    late.close()
    await asyncio.wait_for(late.run(), patience(10))


@pytest.mark.parametrize(
    "failure",
    [Unavailable("full", code="disk_full"), RuntimeError("a bug"), ValueError("another")],
)
async def test_a_failure_reaches_all_of_its_requests_and_the_writer_goes_on(
    log: GatedLog, draft: MakeDraft, failure: Exception
) -> None:
    async with writing(log) as writer:
        first = await in_flight(log, writer, [draft(id="first")])
        rest = await queued([writer.append([draft(id=f"lost{n}")]) for n in range(5)])
        log.failures = [failure]
        log.gate.set()
        outcomes = await asyncio.wait_for(
            asyncio.gather(first, *rest, return_exceptions=True), patience(10)
        )
        assert outcomes[0] is failure
        # Only the append that failed has failed: those behind it were another.
        assert [outcome for outcome in outcomes[1:] if isinstance(outcome, Appended)] == [
            Appended(1, 0, place, place) for place in range(1, 6)
        ]
        log.failures = [failure]
        log.gate.clear()
        again = await queued([writer.append([draft(id=f"b{n}")]) for n in range(5)])
        log.gate.set()
        outcomes = await asyncio.wait_for(
            asyncio.gather(*again, return_exceptions=True), patience(10)
        )
        assert outcomes == [failure] * 5
        assert (await writer.append([draft(id="after")])).first == 6
    assert log.head == 6


async def test_failures_give_back_the_room_in_the_queue(log: GatedLog, draft: MakeDraft) -> None:
    log.gate.set()
    log.failures = [Unavailable("away") for _ in range(30)]
    async with writing(log, events=5) as writer:
        for _ in range(30):
            with pytest.raises(Unavailable, match="away"):
                await writer.append([draft() for _ in range(5)])
        results = await asyncio.gather(*(writer.append([draft()]) for _ in range(5)))
        assert [result.accepted for result in results] == [1] * 5


async def test_cancelled_requests_do_not_break_the_others(log: GatedLog, draft: MakeDraft) -> None:
    async with writing(log) as writer:
        first = await in_flight(log, writer, named(draft, "first"))
        rest = await queued([writer.append(named(draft, f"e{n}")) for n in range(6)])
        for request in (first, rest[0], rest[3]):
            request.cancel()
        await asyncio.sleep(0)
        log.gate.set()
        results = await asyncio.gather(*(rest[n] for n in (1, 2, 4, 5)))
        assert all(result.accepted == 1 for result in results)
        assert [request.cancelled() for request in (first, rest[0], rest[3])] == [True] * 3
        places = {n: result.first for n, result in zip((1, 2, 4, 5), results, strict=True)}
        for number, place in places.items():
            [event] = await log.find(f"e{number}", None)
            assert event.offset == place


async def test_a_failed_append_whose_requests_are_all_gone_is_survived(
    log: GatedLog, draft: MakeDraft
) -> None:
    async with writing(log) as writer:
        first = await in_flight(log, writer, [draft()])
        log.failures = [Unavailable("away")]
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        log.gate.set()
        assert (await writer.append([draft()])).accepted == 1
