"""What is optional may fail: a lower priority of the threads that read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.sqlite.log import SqliteLog
from gateway.event import Draft


async def test_a_log_is_read_where_threads_may_not_be_made_nicer(
    tmp_path: Path, clock: Any, draft: Callable[..., Draft], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(*arguments: int) -> None:
        asked.append(arguments)
        raise PermissionError("a seccomp filter")

    monkeypatch.setattr(os, "setpriority", refuse)
    log = await SqliteLog.open(tmp_path / "log.db", clock)
    await log.append([[draft() for _ in range(200)]])
    page = await log.read(0, 200, limit=200, hint=None)
    assert len(page.events) == 200
    assert await log.last_before(1 << 60) == 200
    assert asked
    await log.close()
