"""The inner subscriber of the tail: it measures delivery also when nobody is connected."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import Unavailable
from gateway.notifier import Notifier
from gateway.streaming.health.canary import Canary
from gateway.streaming.tail import Tail
from tests.unit.streaming.test_stale_keys import World, cannot_be_read, world

__all__ = ["world"]


@pytest.fixture
def canary(world: World) -> Canary:
    world.tail = Tail(world.log, world.hub, Notifier(), world.clock, world.enforcement.freshness)
    world.log.on_append(world.tail.log_grew)
    return world.tail.canary


async def no_page(*_: Any, **__: Any) -> Any:
    raise Unavailable("it cannot be read", code="store_slow")


def taken(canary: Canary) -> float:
    return sum(canary.seconds.cells[:-1])


async def look(world: World, seconds: int) -> None:
    for _ in range(seconds):
        world.tail.canary.look()
        await world.seconds(1)
    world.tail.canary.look()


async def test_an_event_is_handed_to_the_canary_though_nobody_is_connected(
    world: World, canary: Canary
) -> None:
    world.start()
    await world.seconds(0.5)
    await world.append("a")
    await world.until(lambda: taken(canary) == 1)
    assert canary.position == world.log.head == world.hub.position == 1
    assert canary.behind == 0


async def test_without_streams_one_event_a_second_is_read(
    world: World, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, limits = world.log.read, []

    async def counted(after: int, until: int, *, limit: int) -> object:
        limits.append(limit)
        return await read(after, until, limit=limit)

    monkeypatch.setattr(world.log, "read", counted)
    world.start()
    await world.seconds(0.5)
    for number in range(40):
        await world.append(f"a{number}")
        await world.seconds(0.1)
    assert limits == [1] * len(limits)
    assert 3 <= len(limits) == taken(canary) <= 5
    assert canary.position == world.log.head == 40


async def test_each_page_of_live_streams_reaches_the_canary_too(
    world: World, canary: Canary
) -> None:
    world.start()
    peer = await world.open("k")
    for number in range(3):
        await world.append(f"a{number}")
        await world.until(lambda number=number: peer.got(f"a{number}"))
    await world.until(lambda: taken(canary) == 3)


async def test_a_canary_falls_behind_while_the_log_cannot_be_read(
    world: World, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start()
    await world.seconds(0.5)
    with monkeypatch.context() as patch:
        patch.setattr(world.log, "read", no_page)
        await world.append("a")
        await look(world, 6)
        assert canary.behind >= 5
    await world.until(lambda: taken(canary) == 1)
    assert canary.behind == 0
    # It waited with the event.
    assert canary.seconds.cells[-1] >= 5


async def test_a_canary_falls_behind_while_it_is_not_known_what_keys_may_see(
    world: World, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start()
    await world.seconds(0.5)
    with monkeypatch.context() as patch:
        patch.setattr(world.keyring, "refresh_keys", cannot_be_read)
        await world.seconds(2)
        await world.append("a")
        await look(world, 6)
        assert canary.behind >= 5
        assert isinstance(world.enforcement.freshness.keys.failure, Unavailable)
    await world.until(lambda: taken(canary) == 1)
    assert canary.behind == 0
