"""The tail sleeps while nobody is live, and its position never goes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.notifier import Notifier
from gateway.streaming.tail import Tail
from gateway.wire.framing import RESTART
from tests.unit.streaming.test_stale_keys import World, world

__all__ = ["world"]


@pytest.fixture
def tail(world: World) -> Tail:
    tail = world.tail = Tail(
        world.log, world.hub, Notifier(), world.clock, world.enforcement.freshness
    )
    world.log.on_append(tail.log_grew)
    return tail


async def the_canary_has_taken(world: World, event_id: str) -> None:
    """It wants no other for a second."""
    await world.append(event_id)
    canary = world.tail.canary
    await world.until(lambda: canary.position == world.log.head and not canary.wants_event)


async def test_events_that_nobody_live_waits_for_wake_nobody(world: World, tail: Tail) -> None:
    world.start()
    await world.seconds(0.5)
    await the_canary_has_taken(world, "z")
    [asleep] = tail._appends._waiting
    await world.append("a")
    assert world.hub.position == world.log.head == 2
    await world.seconds(0.1)
    assert list(tail._appends._waiting) == [asleep]
    assert not asleep.done()
    # Whoever comes then gets what comes next, and nothing of before.
    peer = await world.open("k")
    await world.append("b")
    await world.until(lambda: peer.got("b"))
    assert not peer.got("a")


async def test_the_position_does_not_go_back_when_the_last_stream_leaves_while_a_page_is_read(
    world: World, tail: Tail, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start()
    leaving = await world.open("k")
    await world.append("first")
    await world.until(lambda: leaving.got("first"))
    read, positions = world.log.read, []
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any, **options: Any) -> Any:
        page = await read(*arguments, **options)
        reading.set()
        await go_on.wait()
        return page

    def moved(position: int, move: Any = world.hub.move_to) -> None:
        positions.append(position)
        move(position)

    monkeypatch.setattr(world.log, "read", slow)
    monkeypatch.setattr(world.hub, "move_to", moved)
    await world.append("second")
    await reading.wait()
    for subscription in list(world.hub.subscriptions):
        world.hub.end(subscription, RESTART)
    await world.append("third")
    staying = await world.open("l")
    go_on.set()
    await world.append("fourth")
    await world.until(lambda: staying.got("fourth"))
    assert positions == sorted(positions)
    assert staying.data.count(b'"fourth"') == 1
    assert not staying.got("second")
