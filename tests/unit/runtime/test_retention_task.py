"""The task that deletes old events goes on, whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.adapters.sqlite.log import SqliteLog
from gateway.errors import Unavailable
from gateway.event import Draft
from gateway.runtime.background import Background
from gateway.runtime.retention import Retention
from gateway.trusted_clock import TrustedClock
from tests.support.machine_time import patience


async def test_retention_goes_on_after_an_error_that_nobody_thought_of(
    tmp_path: Path, clock: Any, draft: Callable[..., Draft], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    log = await SqliteLog.open(tmp_path / "log.db", clock)
    await log.append([[draft()]])
    failures = [ValueError("nobody thought of it"), Unavailable("the disk is away")]
    trim = log.trim

    async def failing(*arguments: Any) -> int:
        if failures:
            raise failures.pop(0)
        return await trim(*arguments)

    monkeypatch.setattr(log, "trim", failing)
    keys = SqliteKeys(tmp_path / "keys.db")
    retention = Retention(log, keys, TrustedClock.from_machine(clock), age=3600, size=0)
    background = Background(clock)
    background.keep("retention", retention.run)
    clock.tick(7200)
    async with asyncio.timeout(patience(10)):
        while log.floor < 1:
            await clock.advance(10)
    assert background.errors["retention"] == 1
    assert "nobody thought of it" in caplog.text
    assert "retention failed, trying again: the disk is away" in caplog.text
    await background.close()
    await log.close()
    await keys.close()
