"""No call of a store stops the event loop, whoever holds a lock on its file."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from gateway.access.keys import lifecycle
from gateway.access.keys.key import Key
from gateway.access.usage.meter import UsageBatch
from gateway.adapters.files.same_file import SameFile
from gateway.adapters.sqlite import thread as sqlite_thread
from gateway.adapters.sqlite.database import open_reader
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.adapters.sqlite.thread import SqliteThreads
from gateway.adapters.sqlite.usage import SqliteLedger
from gateway.errors import GatewayError, Unavailable
from tests.support.machine_time import Stopwatch

KEY = Key(
    id="a", digest=b"d" * 32, name="a", purpose="p", owner="o", created_at=1.0, expires_at=9e9
)
HELD_SECONDS = 0.4
# Of a hundred on a quiet machine; a loop that is held up has one or two.
LEAST_BEATS = 4


@contextmanager
def locked(path: Path, *, against_readers: bool = False) -> Iterator[apsw.Connection]:
    """Hold the lock of somebody else who writes, or who has the file to himself."""
    holder = apsw.Connection(str(path))
    holder.set_busy_timeout(5000)
    if against_readers:
        holder.pragma("locking_mode", "exclusive")
    holder.execute("BEGIN IMMEDIATE")
    holder.execute("UPDATE role_version SET version = version")
    try:
        yield holder
    finally:
        if holder.in_transaction:
            holder.execute("ROLLBACK")
        holder.close()


class Heart:
    """Counts the turns of the event loop, of which there is none while it is held up."""

    def __init__(self) -> None:
        self.beats = 0

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(0.005)
            self.beats += 1


@pytest.fixture
async def heart() -> AsyncIterator[Heart]:
    heart = Heart()
    beating = asyncio.create_task(heart.beat())
    yield heart
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)


@pytest.fixture
async def keys(tmp_path: Path) -> AsyncIterator[SqliteKeys]:
    keys = SqliteKeys(tmp_path / "keys.db")
    await keys.create(KEY)
    yield keys
    await keys.close()


WRITES: tuple[Callable[[SqliteKeys], Any], ...] = (
    lambda keys: keys.create(msgspec.structs.replace(KEY, id="b")),
    lambda keys: keys.create_first(KEY),
    lambda keys: keys.change("a", lambda key: msgspec.structs.replace(key, name="b")),
    lambda keys: keys.change("a", lambda found: lifecycle.revoke(found, 2.0, "lost")),
    lambda keys: keys.delete_role("none"),
    lambda keys: keys.mark_recorded([1]),
    lambda keys: keys.update_notes("kind", {"name": lambda _: b"made"}),
)


async def test_writes_wait_for_another_process_and_the_loop_does_not(
    keys: SqliteKeys, tmp_path: Path, heart: Heart
) -> None:
    with locked(tmp_path / "keys.db"):
        writing = [asyncio.ensure_future(write(keys)) for write in WRITES]
        await asyncio.sleep(HELD_SECONDS)
        assert not any(one.done() for one in writing)
        assert heart.beats >= LEAST_BEATS
    await asyncio.gather(*writing)


async def test_reads_do_not_wait_for_what_waits_to_be_written(
    keys: SqliteKeys, tmp_path: Path
) -> None:
    with locked(tmp_path / "keys.db"):
        writing = [asyncio.ensure_future(write(keys)) for write in WRITES]
        await asyncio.sleep(0)
        assert (await keys.changed_since(0))[0] == 1
        assert (await keys.roles_since(-1))[0] == 0
        assert await keys.get("a") is not None
        assert await keys.note("kind", "name") is None
        assert not any(one.done() for one in writing)
    await asyncio.gather(*writing)
    assert await keys.note("kind", "name") == b"made"


async def test_a_change_by_whoever_holds_the_lock_is_seen_although_writes_wait(
    keys: SqliteKeys, tmp_path: Path
) -> None:
    with locked(tmp_path / "keys.db") as holder:
        writing = asyncio.ensure_future(keys.mark_recorded([1]))
        await asyncio.sleep(0)
        holder.execute("UPDATE key SET revision = 7 WHERE id = 'a'")
        holder.execute("COMMIT")
        holder.execute("BEGIN IMMEDIATE")
        newest, changed = await keys.changed_since(1)
        assert (newest, [key.id for key in changed]) == (7, ["a"])
    await writing


async def test_reads_of_a_file_that_somebody_has_to_himself_fail_and_the_loop_goes_on(
    tmp_path: Path, heart: Heart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.adapters.sqlite.database._BUSY_READER_MILLISECONDS", 200)
    path = tmp_path / "keys.db"
    await SqliteKeys(path).close()
    threads = SqliteThreads("reader", lambda: open_reader(path), file=SameFile(path))
    with locked(path, against_readers=True), pytest.raises(apsw.BusyError):
        await threads.run(lambda connection: connection.execute("SELECT * FROM key").fetchall())
    assert heart.beats >= LEAST_BEATS
    assert await threads.run(lambda connection: connection.execute("SELECT 1").fetchall())
    threads.close()


def sqlite_thread_reader(path: Path) -> apsw.Connection:
    from gateway.adapters.sqlite.database import open_reader

    return open_reader(path)


async def test_usage_waits_for_its_file_and_the_loop_does_not(tmp_path: Path, heart: Heart) -> None:
    ledger = SqliteLedger(tmp_path / "usage.db")
    holder = apsw.Connection(str(tmp_path / "usage.db"))
    holder.execute("BEGIN IMMEDIATE")
    adding = asyncio.ensure_future(ledger.add(UsageBatch("w", 1, {"k": (1, (1, 0, 0, 0, 0))})))
    await asyncio.sleep(HELD_SECONDS)
    assert not adding.done()
    assert heart.beats >= LEAST_BEATS
    holder.close()
    await adding
    await ledger.close()


async def test_two_writers_of_one_process_do_not_hold_up_each_other(tmp_path: Path) -> None:
    # A connection's own context manager would wait for the other one with Python's lock in hand.
    stores = [SqliteKeys(tmp_path / "keys.db") for _ in range(2)]

    def slowly(before: bytes | None) -> bytes:
        time.sleep(0.002)  # Lets the other thread begin.
        return str(int(before or b"0") + 1).encode()

    watch = Stopwatch()
    await asyncio.gather(
        *(stores[number % 2].update_notes("sum", {"a": slowly}) for number in range(40))
    )
    assert await stores[0].note("sum", "a") == b"40"
    assert watch.seconds < 4
    for store in stores:
        await store.close()


async def test_what_callers_give_to_do_runs_on_no_loop(keys: SqliteKeys) -> None:
    mine, theirs = threading.get_ident(), set()

    def changing(key: Key) -> Key:
        theirs.add(threading.get_ident())
        return key

    def noting(before: bytes | None) -> bytes:
        theirs.add(threading.get_ident())
        return b""

    await keys.change("a", changing)
    await keys.update_notes("kind", {"name": noting})
    assert len(theirs) == 2
    assert mine not in theirs


async def test_a_change_whose_caller_is_cancelled_is_made_whole_or_not_at_all(
    keys: SqliteKeys,
) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slowly(key: Key) -> Key:
        began.set()
        go_on.wait(10)
        return msgspec.structs.replace(key, name="changed")

    other = msgspec.structs.replace(KEY, id="b")
    changing = asyncio.ensure_future(keys.change("a", slowly, create=other))
    await asyncio.to_thread(began.wait, 10)
    changing.cancel()
    behind = asyncio.ensure_future(
        keys.change("b", lambda found: lifecycle.revoke(found, 2.0, "lost"))
    )
    go_on.set()
    assert await behind is not None, "the one behind it came after the whole of it"
    changed = await keys.get("a")
    assert changed is not None
    assert changed.name == "changed"


async def test_who_has_waited_too_long_for_others_is_refused_without_another_wait(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.db"
    threads = SqliteThreads(
        "one", lambda: apsw.Connection(str(path)), patience=0.05, file=SameFile(path)
    )
    go_on = threading.Event()
    first = asyncio.ensure_future(threads.run(lambda connection: go_on.wait(10)))
    done: list[int] = []
    behind = asyncio.ensure_future(threads.run(lambda connection: done.append(1)))
    await asyncio.sleep(0.1)
    go_on.set()
    await first
    with pytest.raises(apsw.BusyError):
        await behind
    assert not done
    threads.close()


async def test_a_store_that_is_too_busy_is_unavailable(
    keys: SqliteKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys._reading, "_patience", -1.0)
    with pytest.raises(Unavailable, match="the keys cannot be read") as caught:
        await keys.get("a")
    assert caught.value.code == "store_unavailable"


def test_threads_are_there_from_the_start(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    path = tmp_path / "x.db"
    threads = SqliteThreads("several", lambda: apsw.Connection(str(path)), 3, file=SameFile(path))
    started = set(threading.enumerate()) - before
    assert len(started) == 3
    for _ in range(5):
        threads.run_now(lambda connection: None)
    assert set(threading.enumerate()) - before == started
    threads.close()
    assert not set(threading.enumerate()) & started


def test_a_thread_that_cannot_be_started_is_an_error_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, started = threading.Thread.start, []

    def limited(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    path = tmp_path / "x.db"
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_thread.threading.Thread, "start", limited)
        with pytest.raises(GatewayError, match="can't start"):
            SqliteThreads("several", lambda: apsw.Connection(str(path)), 3, file=SameFile(path))
    assert not any(thread.is_alive() for thread in started)
