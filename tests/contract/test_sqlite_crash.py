"""The embedded log when its process is killed, and beside other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from gateway.adapters.sqlite.log import SqliteLog
from gateway.errors import FolderLocked

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.event import Draft
    from tests.conftest import FakeClock

ROOT = Path(__file__).parents[2]

# Says `open`, then `<first offset> <last offset> <name>` for each acknowledged batch of seven.
WRITER = """
import asyncio, sys
from pathlib import Path
from gateway.clock import SystemClock
from gateway.ingest.decode import decode_event
from gateway.adapters.sqlite.log import SqliteLog

path, life, deletes = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "deletes"

def drafts(name):
    for item in range(7):
        event = '{"id":"%s-%d","category":"a","action":"b","data":{"x":"%s"}}'
        yield decode_event((event % (name, item, "y" * 700)).encode(), iter(()))

async def work(log, task):
    number = 0
    while True:
        names = [f"{life}-{task}-{number}-{batch}" for batch in range(3)]
        results = await log.append([list(drafts(name)) for name in names])
        for name, result in zip(names, results):
            print(result.first, result.last, name, flush=True)
        if deletes and number % 5 == 4:
            await log.trim(None, 200_000)
        number += 1

async def main():
    log = await SqliteLog.open(path, SystemClock())
    print("open", flush=True)
    await asyncio.gather(*(work(log, task) for task in range(4)))

asyncio.run(main())
"""


@contextmanager
def writer(path: Path, life: int, deletes: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that has opened the log and appends to it until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(life), deletes],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        assert process.stdout is not None
        process.stdout.close()
        process.wait(30)


def killed_after(path: Path, life: int, lines: int, deletes: str = "") -> list[tuple[int, str]]:
    """`(first offset, name)` of every batch that the process said was durable."""
    with writer(path, life, deletes) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.read().splitlines(keepends=True)
        process.wait(30)
    whole = [line.split() for line in said if line.endswith("\n")]
    assert all(int(last) - int(first) == 6 for first, last, _ in whole)
    return [(int(first), name) for first, _, name in whole]


def check_file(path: Path) -> tuple[int, int, dict[int, str]]:
    """`(floor, head, id by offset)`; what the log says of itself is true."""
    connection = apsw.Connection(str(path))
    assert connection.pragma("integrity_check") == "ok"

    def select(sql: str) -> Any:
        return connection.execute(sql).fetchall()

    [(floor, head, size)] = select("SELECT floor, head, bytes FROM log")
    rows: dict[int, str] = dict(select("SELECT offset, id FROM event ORDER BY offset"))
    [(stored,)] = select("SELECT total(length(body)) FROM event")
    connection.close()
    assert list(rows) == list(range(floor + 1, head + 1)), "offsets are dense"
    assert len(set(rows.values())) == len(rows), "every event is there once"
    assert size == stored
    return floor, head, rows


@pytest.mark.parametrize("deletes", ["", "deletes"])
async def test_every_acknowledged_event_survives_kill_9(
    tmp_path: Path, clock: FakeClock, draft: Callable[..., Draft], deletes: str
) -> None:
    path = tmp_path / "log.db"
    acknowledged: list[tuple[int, str]] = []
    for life, lines in enumerate((1, 40, 7)):
        acknowledged += killed_after(path, life, lines, deletes)
        floor, head, rows = check_file(path)
        assert head >= acknowledged[-1][0] + 6
        for first, name in acknowledged:
            stands = [rows.get(offset) for offset in range(first, first + 7)]
            kept = [None if first + item <= floor else f"{name}-{item}" for item in range(7)]
            assert stands == kept
        # Batches are whole, also those that nobody heard of.
        batches = [name.rpartition("-")[0] for name in rows.values()]
        whole = {name for offset, name in zip(rows, batches, strict=True) if offset > floor + 6}
        assert all(batches.count(name) == 7 for name in whole)
    log = await SqliteLog.open(path, clock)
    assert (log.floor, log.head) == (floor, head)
    assert (await log.append([[draft()]]))[0].first == head + 1
    await log.close()


async def test_a_second_writer_is_refused_and_told_which_process_has_the_log(
    tmp_path: Path, clock: FakeClock
) -> None:
    path = tmp_path / "log.db"
    with writer(path, 0) as process:
        with pytest.raises(FolderLocked) as caught:
            await SqliteLog.open(path, clock)
        assert f"(pid {process.pid})" in caught.value.detail
        assert "--data" in caught.value.detail
        assert (caught.value.code, caught.value.status) == ("folder_locked", 503)
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.wait(30)
        log = await SqliteLog.open(path, clock)
        assert log.head > 0
        await log.close()


async def test_readers_of_another_process_see_a_growing_log_without_gaps(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with writer(path, 0) as process:
        assert process.stdout is not None
        reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        newest = 0
        for _ in range(60):
            first = int(process.stdout.readline().split()[0])
            rows: Any = reader.execute(
                "SELECT count(*), max(offset), (SELECT head FROM log) FROM event"
            ).fetchall()
            [(count, last, head)] = rows
            assert count == last == head
            assert head >= max(newest, first + 6), "what was acknowledged can be read"
            newest = head
        reader.close()
