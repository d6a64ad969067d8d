"""What a destination has read and not sent: when more is read, and when a batch is due."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from gateway.delivery.definition import DestinationBatch
from gateway.delivery.outlets.http import HTTP
from gateway.delivery.running import stream
from gateway.delivery.running.encoded_batch import OpenBatch
from gateway.delivery.running.stream import Inbox
from gateway.delivery.running.upcoming import Upcoming
from gateway.notifier import Notifier
from tests.support.outbound_events import outbound_event
from tests.support.outlets import new_outlet

if TYPE_CHECKING:
    from tests.conftest import FakeClock

LINE = b'{"cursor":"a"}\n'


async def settled(waiting: asyncio.Task[None]) -> bool:
    """Whether it has ended after what can be done at once."""
    for _ in range(5):
        await asyncio.sleep(0)
    return waiting.done()


def new_inbox(
    max_wait: float, behind: Callable[[], int] = lambda: 0, now: Callable[[], float] = lambda: 0.0
) -> Inbox:
    return Inbox(lambda gap: None, lambda: None, behind, max_wait, now)


def new_batch(max_wait: str) -> OpenBatch:
    """Batch with an event since 0.0."""
    outlet = new_outlet(HTTP, {"url": "https://siem.example.org"}, transport=object())
    opened = OpenBatch(outlet, DestinationBatch(max_wait=max_wait))
    assert opened.take(deque([outbound_event(1).json]), 1, 0.0) == 1
    return opened


async def test_few_events_wait_for_others_before_more_is_read_and_many_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "_LONGEST_PAUSE", 3600.0)
    behind = [0]
    inbox = new_inbox(36_000.0, lambda: behind[0])
    await inbox.drained()
    inbox.write(LINE)
    waiting = asyncio.create_task(inbox.drained())
    assert not await settled(waiting)
    inbox.abort()
    await waiting
    behind[0] = 1000
    inbox = new_inbox(36_000.0, lambda: behind[0])
    inbox.write(LINE)
    assert await settled(asyncio.create_task(inbox.drained()))


async def test_more_is_read_by_itself_within_the_wait_for_a_batch() -> None:
    inbox = new_inbox(0.01)
    inbox.write(LINE)
    await inbox.drained()


async def test_what_belongs_into_a_batch_is_read_once_before_it_is_due_and_at_no_common_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: set[float] = set()

    async def until(self: Notifier, condition: Callable[[], bool], seconds: float) -> bool:
        pauses.add(seconds)
        return False

    monkeypatch.setattr(Notifier, "until", until)
    for _ in range(20):
        inbox = new_inbox(1.0)
        inbox.write(LINE)
        await inbox.drained()
        assert max(pauses) < new_batch("1s").left(0.0)
    assert len(pauses) > 10
    assert min(pauses) > 0.5


async def test_what_comes_during_a_pause_counts_from_its_begin_and_other_events_from_now() -> None:
    time, behind = [100.0], [0]
    inbox = new_inbox(0.01, lambda: behind[0], lambda: time[0])
    inbox.write(LINE)
    assert inbox.since == 100.0
    for behind[0], expected in ((1, 100.0), (0, 107.0)):
        pausing = asyncio.create_task(inbox.drained())
        await asyncio.sleep(0)
        inbox.lines.clear()
        time[0] = 107.0
        await pausing
        inbox.write(LINE)
        assert inbox.since == expected
        time[0] = 100.0


def test_batches_of_many_destinations_that_begin_together_are_due_one_after_the_other() -> None:
    left = {new_batch("8s").left(0.0) for _ in range(20)}
    assert len(left) > 10
    assert 7 <= min(left) < max(left) <= 8


@pytest.mark.parametrize(("most", "lulls"), [(2, 1), (1, 0)])
async def test_a_batch_waits_for_a_lull_before_it_is_sent_unless_it_is_full(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, most: int, lulls: int
) -> None:
    outlet = new_outlet(HTTP, {"url": "https://siem.example.org"}, transport=object())
    opened = OpenBatch(outlet, DestinationBatch(max_events=most, max_wait="1s"))
    # What came long ago is due.
    inbox = new_inbox(1.0, now=lambda: clock.monotonic() - 60)
    inbox.write(outbound_event(1).json)
    waited: list[None] = []

    async def lull(self: Inbox) -> None:
        waited.append(None)

    monkeypatch.setattr(Inbox, "lull", lull)
    upcoming = Upcoming(
        opened, outlet, inbox, clock, Notifier(), lambda: len(inbox.lines), lambda: False
    )
    batch = await upcoming.next(3600.0)
    assert batch is not None
    assert len(batch.lines) == 1
    assert len(waited) == lulls
