"""Destinations of the type `file`: what the outlet makes of its files."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.delivery.outlets.file import FILE
from gateway.delivery.outlets.outlet import DeliveryResult, EncodedEvent, Outlet
from gateway.delivery.outlets.outlet_plan import NativeFormat
from gateway.errors import InvalidRequest
from tests.support.cases import every
from tests.support.machine_time import eventually
from tests.support.outlets import batch_of, new_outlet

SUCCESS, TRANSIENT, PERMANENT, CONFIG = DeliveryResult


@asynccontextmanager
async def file_outlet(root: Path, **settings: Any) -> AsyncIterator[Outlet]:
    outlet = new_outlet(FILE, settings, folder=root)
    try:
        yield outlet
    finally:
        await outlet.close()


def lines(folder: Path) -> list[bytes]:
    [path] = folder.glob("siem-*.ndjson")
    return path.read_bytes().splitlines()


def bodies(batch: list[EncodedEvent]) -> list[bytes]:
    return [encoded.body for encoded in batch]


async def test_events_are_on_the_disk_once_and_the_cursor_comes_from_there(tmp_path: Path) -> None:
    async with file_outlet(tmp_path) as outlet:
        assert (await outlet.open()).cursor is None
        batch = batch_of(outlet, 4)
        assert (await outlet.send(batch[:3])).result is SUCCESS
    async with file_outlet(tmp_path) as outlet:
        opened = await outlet.open()
        assert (opened.result, opened.cursor) == (SUCCESS, batch[2].outbound.cursor)
        again = await outlet.send(batch)
        assert (again.result, again.duplicates) == (SUCCESS, 3)
    assert lines(tmp_path) == bodies(batch)


async def test_a_batch_that_is_known_writes_nothing(tmp_path: Path) -> None:
    async with file_outlet(tmp_path) as outlet:
        batch = batch_of(outlet, 3)
        await outlet.send(batch)
        assert (await outlet.send(batch[:2])).duplicates == 2
    assert lines(tmp_path) == bodies(batch)


async def test_what_was_written_while_nobody_listened_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, fsync = threading.Event(), os.fsync
    async with file_outlet(tmp_path) as outlet:
        await outlet.open()
        batch = batch_of(outlet, 6)
        entered = threading.Event()

        def slow(fd: int) -> None:
            entered.set()
            assert going.wait(60)
            fsync(fd)

        monkeypatch.setattr(os, "fsync", slow)
        task = asyncio.create_task(outlet.send(batch[:5]))
        await eventually(entered.is_set, "the disk is asked")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        going.set()
        assert (await outlet.send(batch[:2])).result is SUCCESS
        assert (await outlet.send(batch[2:])).result is SUCCESS
    assert lines(tmp_path) == bodies(batch)


@pytest.mark.parametrize(
    ("number", "result"),
    [(errno.ENOSPC, TRANSIENT), (errno.EIO, TRANSIENT), (errno.EROFS, CONFIG)],
)
async def test_failures_of_the_disk_are_tried_again_without_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, result: DeliveryResult
) -> None:
    async with file_outlet(tmp_path) as outlet:
        batch = batch_of(outlet, 4)
        await outlet.send(batch[:2])
        with monkeypatch.context() as patch:

            def fail(*_: Any) -> int:
                raise OSError(number, os.strerror(number))

            patch.setattr(os, "write", fail)
            verdict = await outlet.send(batch[2:])
            assert (verdict.result, verdict.kind) == (result, "disk")
            assert verdict.message == os.strerror(number)
        assert (await outlet.send(batch[2:])).result is SUCCESS
    assert lines(tmp_path) == bodies(batch)


async def test_a_folder_that_is_missing_is_of_the_configuration(tmp_path: Path) -> None:
    async with file_outlet(tmp_path / "missing") as outlet:
        assert (await outlet.open()).result is CONFIG
        (tmp_path / "missing").mkdir()
        assert (await outlet.open()).result is SUCCESS


async def test_files_that_another_process_writes_are_waited_for(tmp_path: Path) -> None:
    async with file_outlet(tmp_path) as one, file_outlet(tmp_path) as other:
        assert (await one.open()).result is SUCCESS
        verdict = await other.send(batch_of(other))
        assert (verdict.result, verdict.kind) == (TRANSIENT, "disk")
        await one.close()
        assert (await other.send(batch_of(other))).result is SUCCESS


async def test_the_test_event_is_written_and_removed(tmp_path: Path) -> None:
    async with file_outlet(tmp_path, folder="deep/er") as outlet:
        assert (await outlet.test(batch_of(outlet, 1)[0])).result is SUCCESS
        assert list((tmp_path / "deep" / "er").iterdir()) == []


async def test_the_test_event_is_written_while_another_process_delivers(tmp_path: Path) -> None:
    async with file_outlet(tmp_path) as one, file_outlet(tmp_path) as other:
        await one.send(batch_of(one, 2))
        assert (await other.test(batch_of(other, 1)[0])).result is SUCCESS
        assert (await one.send(batch_of(one, 3))).duplicates == 2
    assert len(lines(tmp_path)) == 3


async def test_segments_close_as_the_settings_say(tmp_path: Path) -> None:
    async with file_outlet(tmp_path, max_bytes=1 << 16) as outlet:
        batch = batch_of(outlet, 4, data={"text": "x" * 40_000})
        for encoded in batch:
            await outlet.send([encoded])
    assert len(list(tmp_path.glob("siem-*.ndjson.gz"))) == 3
    assert lines(tmp_path) == bodies(batch[3:])


@every([
    {"folder": "/etc"}, {"folder": "../up"}, {"max_bytes": 1}, {"max_seconds": 0},
    {"max_bytes": 1 << 50}, {"max_seconds": 1 << 30},
])  # fmt: skip
def test_settings_that_lead_elsewhere_are_refused_with_their_path(settings: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        new_outlet(FILE, settings, folder=Path("/"))
    assert refused.value.members["path"].split(".")[1] in settings


def test_formats_without_a_cursor_in_each_line_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="do not say where a file ends"):
        new_outlet(FILE, {}, format=NativeFormat("cef", False), folder=Path("/"))


async def test_a_replay_writes_files_of_its_own_while_the_delivery_goes_on(tmp_path: Path) -> None:
    async with file_outlet(tmp_path) as outlet:
        batch = batch_of(outlet, 4)
        await outlet.send(batch)
        for _ in range(2):
            again = new_outlet(FILE, {}, folder=tmp_path, replay=True)
            try:
                assert (await again.open()).cursor is None
                assert (await again.send(batch[1:3])).duplicates == 0
            finally:
                await again.close()
        [path] = tmp_path.glob("siem~replay-*.ndjson")
        assert path.read_bytes().splitlines() == bodies(batch[1:3]) * 2
    async with file_outlet(tmp_path) as outlet:
        assert (await outlet.open()).cursor == batch[3].outbound.cursor
    assert lines(tmp_path) == bodies(batch)
