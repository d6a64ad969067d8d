"""What a follower of the embedded log promises beyond the port: it outlives its writer."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.adapters.sqlite.follower import SqliteFollower
from gateway.adapters.sqlite.log import SqliteLog
from gateway.adapters.sqlite.writer_server import AppendTogether, WriterServer
from gateway.errors import GatewayError, Unavailable
from gateway.event import Draft
from gateway.ingest.writer import Writer
from gateway.log.ports import Appended
from tests.support.machine_time import patience
from tests.support.memory_log import MemoryLog

if TYPE_CHECKING:
    from tests.conftest import FakeClock

MakeDraft = Callable[..., Draft]


class Sides:
    """A log that is written here, and its followers. The writer's socket can be taken away."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.path = folder / "log.db"
        self.link = folder / "writer.sock"
        self.clock = clock
        self.log: SqliteLog
        self._server: WriterServer | None = None
        self._writer: Writer
        self._writing: asyncio.Task[None]
        self._followers: list[SqliteFollower] = []

    async def start(self) -> None:
        self.log = await SqliteLog.open(self.path, self.clock)
        self._writer = Writer(self.log, queue_events=100_000, queue_bytes=1 << 30)
        self._writing = asyncio.create_task(self._writer.run())
        await self.listen()

    async def listen(self, append: AppendTogether | None = None) -> None:
        """The writer's socket is there; appends go to the log, or where the test says."""
        self._server = WriterServer(self.link, self.log, append or self._writer.append_together)
        await self._server.start()

    async def cut_off(self) -> None:
        """No follower reaches the writer any more."""
        assert self._server is not None
        await self._server.close(0)
        self._server = None
        await asyncio.sleep(0.01)

    async def follower(self, *, connected: bool = True) -> SqliteFollower:
        follower = await SqliteFollower.open(self.path, self.link, self.clock)
        self._followers.append(follower)
        if connected:
            await follower.connected()
        return follower

    async def close(self) -> None:
        for follower in self._followers:
            await follower.close()
        if self._server is not None:
            await self._server.close(5)
        self._writer.close()
        await self._writing
        await self.log.close()


@pytest.fixture
async def sides(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Sides]:
    sides = Sides(tmp_path, clock)
    await sides.start()
    yield sides
    await sides.close()


async def ids(log: SqliteLog | SqliteFollower) -> list[str]:
    page = await log.read(log.floor, log.head, limit=10_000)
    assert [event.offset for event in page.events] == list(range(log.floor + 1, log.head + 1))
    return [event.members()["id"] for event in page.events]


async def refusal(log: SqliteFollower, one: Draft) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        await log.append([[one]])
    return caught.value


async def test_the_writer_and_its_followers_append_to_one_order(
    sides: Sides, draft: MakeDraft
) -> None:
    logs = [sides.log, await sides.follower(), await sides.follower()]

    async def append(number: int, log: SqliteLog | SqliteFollower) -> list[tuple[int, str]]:
        stored = []
        for turn in range(20):
            names = [f"{number}-{turn}-{item}" for item in range(turn % 3 + 1)]
            [result] = await log.append([[draft(id=name) for name in names]])
            assert log.head >= result.last, "an appender can read what it has appended"
            stored += list(zip(range(result.first, result.last + 1), names, strict=True))
        return stored

    results = await asyncio.gather(*(append(number, log) for number, log in enumerate(logs)))
    order = dict(enumerate(await ids(sides.log), 1))
    assert order == dict(pair for stored in results for pair in stored)
    for log in logs[1:]:
        await log.catch_up()
        assert await ids(log) == list(order.values())


async def test_an_append_of_the_writer_wakes_followers_at_once(
    sides: Sides, draft: MakeDraft
) -> None:
    follower = await sides.follower()
    woken = asyncio.Event()
    follower.on_append(woken.set)
    await sides.log.append([[draft(id="a"), draft(id="b")]])
    # The clock stands still: nobody has looked.
    await asyncio.wait_for(woken.wait(), patience(5))
    assert follower.head == 2
    assert await ids(follower) == ["a", "b"]


async def test_without_a_hint_a_follower_finds_what_is_new_by_itself(
    sides: Sides, draft: MakeDraft, clock: FakeClock
) -> None:
    follower = await sides.follower()
    heads: list[int] = []
    follower.on_append(lambda: heads.append(follower.head))
    await sides.cut_off()
    await sides.log.append([[draft(id="a"), draft(id="b")]])
    await sides.log.trim(None, 0)
    assert (follower.head, heads) == (0, [])
    await clock.advance(0.1)
    assert (follower.head, follower.floor, heads) == (2, 2, [2])


async def test_what_others_have_stored_can_be_read_after_catching_up(
    sides: Sides, draft: MakeDraft
) -> None:
    follower = await sides.follower()
    await sides.cut_off()
    await sides.log.append([[draft(id="a")]])
    await follower.catch_up()
    assert await ids(follower) == ["a"]
    await sides.log.append([[draft(id="b")]])
    assert [event.offset for event in await follower.find("b", None)] == [2]


async def test_while_the_writer_is_away_reading_goes_on_and_appending_is_refused(
    sides: Sides, draft: MakeDraft, clock: FakeClock
) -> None:
    follower = await sides.follower()
    await follower.append([[draft(id="a")]])
    await sides.cut_off()
    error = await refusal(follower, draft(id="b"))
    assert (error.code, error.retry_after) == ("writer_away", 1)
    with pytest.raises(Unavailable):
        await follower.trim(None, 0)
    assert await ids(follower) == ["a"]

    await sides.listen()
    await clock.advance(0.05)
    await asyncio.wait_for(follower.connected(), patience(5))
    assert await follower.append([[draft(id="b")]]) == [Appended(1, 0, 2, 2)]
    assert await ids(follower) == ["a", "b"]


@pytest.mark.parametrize("stored", [True, False])
async def test_an_append_whose_answer_is_lost_is_repeated_without_harm(
    sides: Sides, draft: MakeDraft, clock: FakeClock, stored: bool
) -> None:
    follower = await sides.follower()
    await sides.cut_off()
    taken = asyncio.Event()

    async def take(batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        if stored:
            await sides.log.append(batches)
        taken.set()
        await asyncio.Event().wait()
        raise AssertionError

    await sides.listen(take)
    await clock.advance(0.05)
    await asyncio.wait_for(follower.connected(), patience(5))
    batch = [draft(id="a"), draft(id="b")]
    request = asyncio.create_task(follower.append([batch]))
    await asyncio.wait_for(taken.wait(), patience(5))
    await sides.cut_off()
    with pytest.raises(Unavailable) as caught:
        await request
    assert caught.value.code == "outcome_unknown"

    await sides.listen()
    await clock.advance(0.05)
    await asyncio.wait_for(follower.connected(), patience(5))
    repeated = Appended(0, 2, 1, 2) if stored else Appended(2, 0, 1, 2)
    assert await follower.append([batch]) == [repeated]
    assert await ids(follower) == ["a", "b"]


async def test_a_refusal_reaches_the_follower_as_it_was(sides: Sides, draft: MakeDraft) -> None:
    async def refuse(batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        raise Unavailable("the disk is full", code="disk_full", retry_after=30)

    await sides.cut_off()
    await sides.listen(refuse)
    error = await refusal(await sides.follower(), draft())
    assert (error.detail, error.code, error.retry_after) == ("the disk is full", "disk_full", 30)


async def test_a_failure_of_the_writer_costs_one_connection(
    sides: Sides, draft: MakeDraft, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def break_down(batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        raise ZeroDivisionError

    await sides.cut_off()
    await sides.listen(break_down)
    follower = await sides.follower()
    assert (await refusal(follower, draft())).code == "outcome_unknown"
    assert "ZeroDivisionError" in caplog.text
    await asyncio.wait_for(follower.connected(), patience(5))


async def test_the_end_of_the_writer_waits_for_what_followers_hand_over(
    sides: Sides, draft: MakeDraft
) -> None:
    follower = await sides.follower()
    assert sides._server is not None
    closing = asyncio.create_task(sides._server.close(20))
    await asyncio.sleep(0)
    assert await follower.append([[draft(id="a")]]) == [Appended(1, 0, 1, 1)]
    assert not closing.done()
    await follower.close()
    await asyncio.wait_for(closing, patience(5))
    assert not sides.link.exists()
    sides._server = None


async def test_the_socket_is_its_users_alone_and_replaces_one_that_was_left(
    sides: Sides, tmp_path: Path
) -> None:
    assert stat.S_IMODE(sides.link.stat().st_mode) == 0o600
    # What a killed process leaves behind.
    again = WriterServer(sides.link, sides.log, sides._writer.append_together)
    await again.start()
    await sides.follower()
    await again.close(0)


async def test_a_folder_with_a_long_name_works(
    tmp_path: Path, clock: FakeClock, draft: MakeDraft
) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    sides = Sides(folder, clock)
    await sides.start()
    follower = await sides.follower()
    assert await follower.append([[draft()]]) == [Appended(1, 0, 1, 1)]
    await sides.close()


async def test_a_log_that_is_not_there_cannot_be_followed(tmp_path: Path, clock: FakeClock) -> None:
    with pytest.raises(GatewayError, match=r"log\.db cannot be followed"):
        await SqliteFollower.open(tmp_path / "log.db", tmp_path / "writer.sock", clock)


async def test_a_follower_may_be_there_before_the_writer_listens(
    sides: Sides, draft: MakeDraft, clock: FakeClock
) -> None:
    await sides.cut_off()
    follower = await sides.follower(connected=False)
    assert (await refusal(follower, draft())).code == "writer_away"
    await sides.listen()
    await clock.advance(0.05)
    await asyncio.wait_for(follower.connected(), patience(5))
    await follower.append([[draft()]])


async def test_a_peer_that_reads_nothing_is_told_less(
    tmp_path: Path, clock: FakeClock, draft: MakeDraft
) -> None:
    log = MemoryLog(clock)
    link = tmp_path / "writer.sock"
    server = WriterServer(link, log, log.append)
    await server.start()
    reader, writer = await asyncio.open_unix_connection(link)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(0.01)
    for number in range(30_000):
        await log.append([[draft(id=str(number))]])
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    told = asyncio.create_task(reader.read())
    await asyncio.sleep(0.05)
    await server.close(0)
    # A hint has twelve bytes at least.
    assert len(await told) < 12 * 30_000 / 2
    writer.close()


async def test_what_is_no_frame_ends_only_its_own_connection(
    sides: Sides, draft: MakeDraft
) -> None:
    follower = await sides.follower()
    for damage in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x02\xc1\xc1", b"\x00\x00\x00\x01\x90"):
        reader, writer = await asyncio.open_unix_connection(sides.link)
        writer.write(damage)
        await asyncio.wait_for(reader.read(), patience(5))
        writer.close()
    assert await follower.append([[draft()]]) == [Appended(1, 0, 1, 1)]
