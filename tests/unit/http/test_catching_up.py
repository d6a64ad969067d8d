"""Where other processes append to the log, a request begins where the log stands, not before."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from gateway.cursor import format_cursor
from gateway.errors import CursorGone
from gateway.event import Draft
from gateway.http.query.position import find_begin
from gateway.http.query.query import parse_page
from tests.support.memory_log import MemoryLog

if TYPE_CHECKING:
    from tests.conftest import FakeClock

MakeDraft = Callable[..., Draft]


class Behind(MemoryLog):
    """A log whose process has not heard of the newest events yet."""

    known = 0

    @property
    def head(self) -> int:
        return min(self.known, super().head)

    async def catch_up(self) -> None:
        self.known = super().head


@pytest.fixture
async def log(clock: FakeClock, draft: MakeDraft) -> Behind:
    log = Behind(clock)
    log.known = 5
    await log.append([[draft() for _ in range(5)]])
    log.known = 3
    return log


async def begin(log: Behind, **parameters: str) -> int:
    query = parse_page(parameters.items(), 1_700_000_000.0)
    return (await find_begin(log, query)).offset


async def test_a_cursor_from_another_worker_is_not_taken_for_one_ahead_of_the_log(
    log: Behind,
) -> None:
    assert log.head == 3
    assert await begin(log, after=format_cursor(log.epoch, 5)) == 5
    with pytest.raises(CursorGone, match="ahead of the log"):
        await begin(log, after=format_cursor(log.epoch, 6))


async def test_now_is_behind_everything_that_was_acknowledged(log: Behind) -> None:
    assert await begin(log, **{"from": "now"}) == 5
