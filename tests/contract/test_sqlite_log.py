"""What the embedded log promises beyond the port: one writer, files that last, faults survived."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from gateway.adapters.sqlite import log as sqlite_log
from gateway.adapters.sqlite import reader as sqlite_reader
from gateway.adapters.sqlite.database import open_reader, open_writer, scripts
from gateway.adapters.sqlite.log import SqliteLog
from gateway.errors import FolderLocked, GatewayError, Unavailable
from gateway.event import Draft
from gateway.filters.scope import EVERYTHING, Scope
from gateway.log.ports import Appended, RetentionExceeded, ScanHint

if TYPE_CHECKING:
    from tests.conftest import FakeClock

MakeDraft = Callable[..., Draft]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[apsw.Connection]:
    """The connections that the log writes with, oldest first."""
    opened: list[apsw.Connection] = []

    def watched(path: Path, schema: str) -> apsw.Connection:
        opened.append(open_writer(path, schema))
        return opened[-1]

    monkeypatch.setattr(sqlite_log, "open_writer", watched)
    return opened


async def ids(log: SqliteLog) -> list[Any]:
    found: list[Any] = []
    at = log.floor
    while at < log.head:
        page = await log.read(at, log.head, limit=1000)
        found += [(event.offset, event.members()["id"]) for event in page.events]
        at = page.reached
    return found


async def test_a_reopened_log_is_the_same_log(
    path: Path, clock: FakeClock, draft: MakeDraft
) -> None:
    log = await SqliteLog.open(path, clock)
    epoch = log.epoch
    drafts = [draft(id=f"e{number}") for number in range(5)]
    await log.append([drafts])
    size = sum(len(one.stored(b"2023-11-14T22:13:20.000000Z")) for one in drafts)
    await log.trim(None, size - 1)
    await log.close()

    clock.step(-3600)
    log = await SqliteLog.open(path, clock)
    assert (log.epoch, log.floor, log.head) == (epoch, 1, 5)
    assert await log.append([[draft(id="e4"), draft(id="new")]]) == [Appended(1, 1, 5, 6)]
    assert await ids(log) == [(2, "e1"), (3, "e2"), (4, "e3"), (5, "e4"), (6, "new")]
    last = (await log.read(5, 6, limit=1)).events[0].members()
    assert last["recorded_at"] == "2023-11-14T22:13:20.000000Z", "not before its neighbours"
    await log.close()


async def test_a_recreated_log_has_another_epoch(path: Path, clock: FakeClock) -> None:
    epochs = set()
    for _ in range(3):
        log = await SqliteLog.open(path, clock)
        epochs.add(log.epoch)
        await log.close()
        for file in path.parent.iterdir():
            file.unlink()
    assert len(epochs) == 3


async def test_what_is_stored_survives_a_reopening_after_everything_was_deleted(
    path: Path, clock: FakeClock, draft: MakeDraft
) -> None:
    log = await SqliteLog.open(path, clock)
    await log.append([[draft(), draft()]])
    await log.trim(None, 0)
    await log.close()
    log = await SqliteLog.open(path, clock)
    assert (log.floor, log.head) == (2, 2)
    assert await log.append([[draft()]]) == [Appended(1, 0, 3, 3)]
    await log.close()


async def test_a_second_writer_in_the_process_is_refused(path: Path, clock: FakeClock) -> None:
    log = await SqliteLog.open(path, clock)
    with pytest.raises(FolderLocked, match="another process"):
        await SqliteLog.open(path, clock)
    await log.close()
    again = await SqliteLog.open(path, clock)
    await again.close()


async def test_a_newer_schema_is_refused_and_left_alone(path: Path, clock: FakeClock) -> None:
    await (await SqliteLog.open(path, clock)).close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 99)
    connection.close()
    with pytest.raises(GatewayError, match="newer version") as caught:
        await SqliteLog.open(path, clock)
    assert caught.value.code == "schema_too_new"
    connection = apsw.Connection(str(path))
    assert connection.pragma("user_version") == 99
    connection.pragma("user_version", max(scripts("sqlite_log")))
    connection.close()
    await (await SqliteLog.open(path, clock)).close()


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\x00" + b"x" * 4096])
async def test_a_file_that_is_no_log_is_refused_in_words(
    path: Path, clock: FakeClock, content: bytes
) -> None:
    path.write_bytes(content)
    with pytest.raises(GatewayError, match="cannot be opened") as caught:
        await SqliteLog.open(path, clock)
    assert str(path) in caught.value.detail
    assert path.read_bytes() == content
    path.unlink()
    await (await SqliteLog.open(path, clock)).close()


async def test_a_place_that_cannot_be_written_is_refused_in_words(
    path: Path, clock: FakeClock
) -> None:
    path.with_name("log.db.lock").mkdir()
    with pytest.raises(GatewayError, match="choose another folder") as caught:
        await SqliteLog.open(path, clock)
    assert caught.value.code == "folder_unusable"


async def test_a_full_disk_stores_nothing_of_the_append_and_the_log_goes_on(
    path: Path, clock: FakeClock, draft: MakeDraft, writers: list[apsw.Connection]
) -> None:
    log = await SqliteLog.open(path, clock)
    await log.append([[draft(id="before")]])
    woken: list[int] = []
    log.on_append(lambda: woken.append(log.head))
    [writer] = writers
    largest = writer.pragma("max_page_count")
    writer.pragma("max_page_count", int(str(writer.pragma("page_count"))) + 2)
    big = [draft(id=f"big{number}", data={"x": "y" * 10_000}) for number in range(20)]
    for batches in ([[draft(id="small")], big], [big, [draft(id="small"), draft(id="before")]]):
        with pytest.raises(Unavailable) as caught:
            await log.append(batches)
        assert caught.value.code == "disk_full"
        assert (caught.value.status, caught.value.retry_after) == (503, 30)
        assert await ids(log) == [(1, "before")]
        assert await log.find("small", None) == []
    assert (log.head, woken) == (1, [])

    assert await log.append([[draft(id="fits")]]) == [Appended(1, 0, 2, 2)]
    writer.pragma("max_page_count", largest)
    assert await log.append([big]) == [Appended(20, 0, 3, 22)]
    assert (log.head, woken) == (22, [2, 22])
    await log.close()
    log = await SqliteLog.open(path, clock)
    assert [offset for offset, _ in await ids(log)] == list(range(1, 23))
    await log.close()


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Writing beyond `size` is an I/O error (EFBIG), for every file of the process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_an_io_error_is_answered_and_the_log_mends_itself(
    path: Path, clock: FakeClock, draft: MakeDraft
) -> None:
    log = await SqliteLog.open(path, clock)
    await log.append([[draft(id="before")]])
    # As long as somebody reads, closing does not begin the write-ahead log anew.
    await log.find("before", None)
    with files_end_at(path.with_name("log.db-wal").stat().st_size + 100):
        # Again and again: mending itself fails as well while the fault lasts.
        for number in range(4):
            with pytest.raises(Unavailable) as caught:
                await log.append([[draft(id=f"lost{number}", data={"x": "y" * 20_000})]])
            assert caught.value.code == "store_unavailable"
            assert await ids(log) == [(1, "before")]
        with pytest.raises(Unavailable, match="old events were not deleted"):
            await log.trim(None, 0)
    assert await log.append([[draft(id="after")]]) == [Appended(1, 0, 2, 2)]
    assert await ids(log) == [(1, "before"), (2, "after")]
    assert await log.trim(None, 0) == 2
    await log.close()
    log = await SqliteLog.open(path, clock)
    assert (log.floor, log.head) == (2, 2)
    await log.close()


async def test_a_read_that_fails_says_so_however_large_it_is(
    path: Path, clock: FakeClock, draft: MakeDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await SqliteLog.open(path, clock)
    await log.append([[draft(id=f"e{number}") for number in range(500)]])
    await log.close()
    # What was just appended would be at hand.
    log = await SqliteLog.open(path, clock)

    def broken(path: Path) -> apsw.Connection:
        raise apsw.IOError("disk I/O error")

    lines = ScanHint(EVERYTHING, (EVERYTHING,), True)
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_reader, "open_reader", broken)
        for attempt in (
            lambda: log.read(0, 1, limit=1),
            lambda: log.read(0, 500, limit=1000),
            lambda: log.read_raw(0, 500, limit=1000, hint=lines),
            lambda: log.find("e1", None),
            lambda: log.last_before(0),
        ):
            with pytest.raises(Unavailable, match="the log cannot be read"):
                await attempt()
    assert len((await log.read(0, 500, limit=1000)).events) == 500
    await log.close()


async def test_one_narrowed_read_looks_at_a_bounded_part_of_the_log(
    path: Path, clock: FakeClock, draft: MakeDraft
) -> None:
    log = await SqliteLog.open(path, clock)
    await log.append([[draft(id=f"e{number}") for number in range(20_000)]])
    nowhere = ScanHint(Scope(tenant=("nobody",)), (EVERYTHING,), True)
    for read in (log.read, log.read_raw):
        at, steps = 0, 0
        while at < log.head:
            page = await read(at, log.head, limit=10, hint=nowhere)
            assert at < page.reached <= at + 10_000
            at, steps = page.reached, steps + 1
        assert 2 <= steps <= 20
    await log.close()


async def test_readers_see_whole_appends_and_never_wait_for_the_writer(
    path: Path, clock: FakeClock, draft: MakeDraft
) -> None:
    log = await SqliteLog.open(path, clock)
    reader = open_reader(path)
    for number in range(50):
        await log.append([[draft(id=f"{number}-{item}") for item in range(10)]])
        [(count, newest, head)] = reader.execute(
            "SELECT count(*), max(offset), (SELECT head FROM log) FROM event"
        ).fetchall()
        assert count == newest == head == log.head == (number + 1) * 10
    with pytest.raises(apsw.ReadOnlyError):
        reader.execute("DELETE FROM event")
    reader.close()
    await log.close()


async def test_reads_of_all_sizes_go_on_while_appends_and_deletions_run(
    path: Path, clock: FakeClock, draft: MakeDraft
) -> None:
    log = await SqliteLog.open(path, clock)
    done = False
    seen = 0

    async def follow(step: int) -> None:
        nonlocal seen
        at = 0
        while not done or at < log.head:
            try:
                page = await log.read(at, min(log.head, at + step), limit=1000)
            except RetentionExceeded:
                assert at < log.floor
                at = log.floor
                continue
            assert [event.offset for event in page.events] == list(range(at + 1, page.reached + 1))
            seen += len(page.events)
            at = page.reached
            await asyncio.sleep(0)

    followers = [asyncio.create_task(follow(step)) for step in (10, 500)]
    for number in range(60):
        await log.append([[draft(id=f"{number}-{item}") for item in range(20)]])
        if number % 10 == 9:
            await log.trim(None, 100_000)
    done = True
    await asyncio.gather(*followers)
    assert seen > 0
    await log.close()


async def test_events_of_one_id_cost_the_same_however_many_there_are(
    path: Path, clock: FakeClock, draft: MakeDraft, writers: list[apsw.Connection]
) -> None:
    """In steps of SQLite, of events that come and of those that come again."""
    log = await SqliteLog.open(path, clock)
    steps = 0

    def count() -> bool:
        nonlocal steps
        steps += 1
        return False

    writers[0].set_progress_handler(count, 100)
    taken: list[list[int]] = [[], []]
    for name, number in (("few", 100), ("many", 800)):
        events = [draft(id=name, reason=str(reason)) for reason in range(number)]
        for each, (accepted, duplicates) in zip(taken, ((number, 0), (0, number)), strict=True):
            steps = 0
            [told] = await log.append([events])
            assert (told.accepted, told.duplicates) == (accepted, duplicates)
            each.append(steps)
    for few, many in taken:
        assert few > 0
        assert many < 3 * 8 * few
    await log.close()
