"""Supervised tasks: what fails is reported, started again, and given up when it goes on failing."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.runtime.background import PAUSES, Background

LONGEST = max(PAUSES)


@pytest.fixture
async def background(clock: Any) -> AsyncIterator[Background]:
    background = Background(clock)
    yield background
    await background.close()


class Failing:
    """Work that fails so many times, then waits; `started` counts."""

    def __init__(self, times: int, error: BaseException | None = None) -> None:
        self.started = 0
        self._times = times
        self._error = error or ValueError("nobody thought of it")

    async def __call__(self) -> None:
        self.started += 1
        if self.started <= self._times:
            raise self._error
        await asyncio.Event().wait()


async def test_work_that_fails_is_reported_and_started_again(
    background: Background, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    work = Failing(1)
    background.keep("tail", work)
    await clock.advance(LONGEST)
    assert (work.started, background.errors["tail"], background.failure) == (2, 1, None)
    [record] = [one for one in caplog.records if one.levelno == logging.CRITICAL]
    assert "tail" in record.getMessage()
    assert record.exc_info is not None
    assert "nobody thought of it" in str(record.exc_info[1])


async def test_pauses_between_attempts_grow(background: Background, clock: Any) -> None:
    work = Failing(2)
    background.keep("tail", work)
    await clock.advance(PAUSES[0] - 0.01)
    assert work.started == 1
    await clock.advance(0.01)
    assert work.started == 2
    await clock.advance(PAUSES[1] - 0.01)
    assert work.started == 2
    await clock.advance(0.01)
    assert work.started == 3
    assert PAUSES[0] < PAUSES[1]


async def test_the_third_failure_within_a_minute_ends_the_process(
    background: Background, clock: Any
) -> None:
    told: list[str] = []
    background.on_failure(lambda: told.append("failure"))
    work = Failing(100)
    background.keep("tail", work, lambda: told.append("given up"))
    await clock.advance(60)
    assert told == ["failure", "given up"]
    assert work.started == 3
    assert background.failure is not None
    assert background.failure.exit_code == 70
    assert "tail" in background.failure.detail


async def test_failures_that_are_far_apart_are_lived_with(
    background: Background, clock: Any
) -> None:
    started = 0

    async def work() -> None:
        nonlocal started
        started += 1
        await clock.sleep(31)
        raise ValueError

    background.keep("record", work)
    await clock.advance(600)
    assert started > 10
    assert background.failure is None


async def test_a_cancellation_that_nobody_asked_for_is_a_failure(
    background: Background, clock: Any
) -> None:
    work = Failing(1, asyncio.CancelledError())
    task = background.keep("tail", work)
    await clock.advance(LONGEST)
    assert (work.started, background.errors["tail"]) == (2, 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert background.errors["tail"] == 1, "this one was asked for"


async def test_work_that_is_done_is_not_started_again(background: Background, clock: Any) -> None:
    work = Failing(0)

    async def done() -> None:
        work.started += 1

    await background.keep("retention", done)
    await clock.advance(60)
    assert (work.started, background.errors["retention"]) == (1, 0)


async def test_work_that_runs_once_is_reported_and_ends_nothing(
    background: Background, clock: Any
) -> None:
    work = Failing(100)
    for _ in range(5):
        await background.run("replay", work)
    assert (work.started, background.errors["replay"], background.failure) == (5, 5, None)


async def test_closing_stops_what_runs_and_what_pauses(background: Background, clock: Any) -> None:
    tasks = [background.keep("a", Failing(0)), background.keep("b", Failing(1))]
    await clock.advance(0)
    await background.close()
    assert all(task.cancelled() for task in tasks)


async def test_what_the_event_loop_called_in_vain_is_counted(
    background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(background.report_callback)
    try:
        failing: Callable[[], object] = lambda: 1 / 0  # noqa: E731
        loop.call_soon(failing)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
    assert background.errors["callback"] == 1
    assert "ZeroDivisionError" in caplog.text


async def test_descriptors_that_are_used_up_are_no_flood_of_errors(
    background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    used_up = {
        "message": "socket.accept() out of system resource",
        "exception": OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    }
    for _ in range(100):
        background.report_callback(loop, used_up)
    [told] = caplog.records
    assert "ulimit -n" in told.getMessage()
    assert not background.errors
