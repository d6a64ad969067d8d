"""A copy of an embedded log gets another epoch; the log itself, wherever it is moved, keeps its."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.adapters.sqlite import copy_detection
from gateway.adapters.sqlite.backup import begin_new_life, copy_log
from gateway.adapters.sqlite.log import SqliteLog
from gateway.event import Draft
from tests.support.gateway_process import environment

Visit = Callable[[Path], Awaitable[str]]
CRASH = """
import asyncio, os, sys
from pathlib import Path
from gateway.clock import SystemClock
from gateway.adapters.sqlite.log import SqliteLog

async def main():
    log = await SqliteLog.open(Path(sys.argv[1]), SystemClock())
    print(log.epoch, flush=True)
    os._exit(9)

asyncio.run(main())
"""


@pytest.fixture
def visit(clock: Any, draft: Callable[..., Draft]) -> Visit:
    """Open a log, append to it and close it in order; gives its epoch."""

    async def visit(path: Path) -> str:
        log = await SqliteLog.open(path, clock)
        await log.append([[draft()]])
        await log.close()
        return log.epoch

    return visit


def crash(path: Path) -> str:
    """The epoch of a log whose process has died."""
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(path)], env=environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 9, done.stderr
    return done.stdout.strip()


def copy(source: Path, target: Path) -> Path:
    """As `cp -r` does, with what is beside the log."""
    target.mkdir()
    for file in source.parent.glob(f"{source.name}*"):
        if not file.name.endswith(".lock"):
            shutil.copy(file, target / file.name)
    return target / source.name


async def test_a_log_that_was_stopped_in_order_keeps_its_epoch_however_it_is_moved(
    tmp_path: Path, visit: Visit
) -> None:
    epoch = await visit(tmp_path / "log.db")
    assert await visit(tmp_path / "log.db") == epoch
    moved = copy(tmp_path / "log.db", tmp_path / "moved")
    assert await visit(moved) == epoch
    (tmp_path / "moved").rename(tmp_path / "again")
    assert await visit(tmp_path / "again" / "log.db") == epoch


async def test_a_crash_keeps_the_epoch_where_the_log_is(tmp_path: Path, visit: Visit) -> None:
    epoch = await visit(tmp_path / "log.db")
    assert crash(tmp_path / "log.db") == epoch
    assert crash(tmp_path / "log.db") == epoch
    assert await visit(tmp_path / "log.db") == epoch


async def test_a_copy_of_a_log_in_use_gets_a_new_epoch_once(
    tmp_path: Path, visit: Visit, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    log = await SqliteLog.open(tmp_path / "log.db", clock)
    copied = copy(tmp_path / "log.db", tmp_path / "copy")
    await log.close()
    epoch = await visit(copied)
    assert epoch != log.epoch
    assert "410" in caplog.text
    assert await visit(copied) == epoch
    assert await visit(tmp_path / "log.db") == log.epoch


async def test_a_copy_of_a_crashed_log_gets_a_new_epoch(tmp_path: Path, visit: Visit) -> None:
    epoch = crash(tmp_path / "log.db")
    assert await visit(copy(tmp_path / "log.db", tmp_path / "copy")) != epoch


async def test_a_backup_gets_a_new_epoch_at_its_first_start_and_not_again(
    tmp_path: Path, visit: Visit
) -> None:
    epoch = await visit(tmp_path / "log.db")
    copy_log(tmp_path / "log.db", tmp_path / "backup.db")
    # Also when it is copied to where it is needed.
    (tmp_path / "restored").mkdir()
    restored = tmp_path / "restored" / "log.db"
    shutil.copy(tmp_path / "backup.db", restored)
    another = await visit(restored)
    assert another != epoch
    assert await visit(restored) == another
    assert crash(restored) == another
    assert await visit(tmp_path / "log.db") == epoch


async def test_a_backup_with_a_new_epoch_gets_no_second_one(tmp_path: Path, visit: Visit) -> None:
    await visit(tmp_path / "log.db")
    copy_log(tmp_path / "log.db", tmp_path / "backup.db")
    epoch = begin_new_life(tmp_path / "backup.db")
    assert await visit(tmp_path / "backup.db") == epoch


async def test_within_one_boot_another_device_is_another_file(
    tmp_path: Path, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = crash(tmp_path / "log.db")
    path = tmp_path / "log.db"

    def elsewhere(path: Path) -> None:
        connection = apsw.Connection(str(path))
        connection.execute("UPDATE place SET device = device + 1")
        connection.close()

    # A machine that was booted may count its devices in another order.
    elsewhere(path)
    monkeypatch.setattr(copy_detection, "boot_id", lambda: "another boot")
    assert await visit(path) == epoch
    monkeypatch.undo()
    crash(path)
    elsewhere(path)
    assert await visit(path) != epoch


async def test_a_log_from_before_there_were_marks_keeps_its_epoch(
    tmp_path: Path, visit: Visit
) -> None:
    epoch = await visit(tmp_path / "log.db")
    connection = apsw.Connection(str(tmp_path / "log.db"))
    connection.execute("DELETE FROM place")
    connection.close()
    assert await visit(copy(tmp_path / "log.db", tmp_path / "copy")) == epoch
