"""What a destination has read and not sent: when more is read, and when a batch is due."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from gateway.delivery.definition import DestinationBatch
from gateway.delivery.outlets.http import HTTP
from gateway.delivery.running import stream
from gateway.delivery.running.encoded_batch import OpenBatch
from gateway.delivery.running.stream import Inbox
from tests.support.outbound_events import outbound_event
from tests.support.outlets import new_outlet

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


def test_batches_of_many_destinations_that_begin_together_are_due_one_after_the_other() -> None:
    outlet = new_outlet(HTTP, {"url": "https://siem.example.org"}, transport=object())
    line, left = outbound_event(1).json, set()
    for _ in range(20):
        opened = OpenBatch(outlet, DestinationBatch(max_wait="8s"))
        assert opened.take(deque([line]), 1, 100.0) == 1
        left.add(opened.left(100.0))
    assert len(left) > 10
    assert 6 <= min(left) < max(left) <= 8
