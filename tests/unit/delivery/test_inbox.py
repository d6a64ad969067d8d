"""What a destination has read and not sent: when more is read."""

from __future__ import annotations

import asyncio

import pytest

from gateway.delivery.running import stream
from gateway.delivery.running.stream import Inbox

LINE = b'{"cursor":"a"}\n'


async def settled(waiting: asyncio.Task[None]) -> bool:
    """Whether it has ended after what can be done at once."""
    for _ in range(5):
        await asyncio.sleep(0)
    return waiting.done()


async def test_few_events_wait_for_others_before_more_is_read_and_many_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "_LONGEST_PAUSE", 3600.0)
    behind = [0]
    inbox = Inbox(lambda gap: None, lambda: None, lambda: behind[0], 36_000.0)
    await inbox.drained()
    inbox.write(LINE)
    waiting = asyncio.create_task(inbox.drained())
    assert not await settled(waiting)
    inbox.abort()
    await waiting
    behind[0] = 1000
    inbox = Inbox(lambda gap: None, lambda: None, lambda: behind[0], 36_000.0)
    inbox.write(LINE)
    assert await settled(asyncio.create_task(inbox.drained()))


async def test_more_is_read_by_itself_within_a_tenth_of_the_wait_for_a_batch() -> None:
    inbox = Inbox(lambda gap: None, lambda: None, lambda: 0, 0.01)
    inbox.write(LINE)
    await inbox.drained()
