"""Looks: each bound ends one, and few are under way at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from gateway.errors import TooManyRequests
from gateway.looking.bounds import Look, LookBounds
from gateway.looking.looks import FREE_OFFSETS, Looks, PlacedLook

if TYPE_CHECKING:
    from tests.conftest import FakeClock

BOUNDS = LookBounds(offsets=100, viewed=50, rendered=10, seconds=2.0)


@pytest.mark.parametrize(
    ("spent", "cut"),
    [
        ({"offsets": 99}, False),
        ({"offsets": 100}, True),
        ({"offsets": 60, "viewed": 49}, False),
        ({"offsets": 60, "viewed": 50}, True),
        ({"offsets": 60, "rendered": 9}, False),
        ({"offsets": 60, "rendered": 10}, True),
    ],
)
def test_each_number_bounds_a_look(spent: dict[str, Any], cut: bool) -> None:
    look = Look("page", BOUNDS)
    look.begin(0.0)
    look.spend(**spent)
    assert look.is_over(1.0) == look.cut == cut


def test_a_look_has_the_room_of_its_tightest_bound() -> None:
    look = Look("count", BOUNDS)
    assert look.room == 100
    assert look.events(200) == 200
    assert look.events(200, viewed=True) == 50
    assert look.events(200, viewed=True, rendered=True) == 10
    look.spend(95, viewed=1, rendered=10)
    assert look.room == 5
    assert look.events(200, viewed=True) == 49
    assert look.events(200, rendered=True) == 1


def test_the_time_of_a_look_is_that_between_begin_and_end() -> None:
    look = Look("page", BOUNDS)
    look.begin(10.0)
    look.end(11.0)
    assert not look.is_over(100.0)
    look.begin(100.0)
    assert not look.is_over(100.9)
    assert look.is_over(101.0)


async def placed(looks: Looks, key: str) -> PlacedLook:
    look = looks.look(key, "page")
    look.begin(0.0)
    await look.place()
    return look


async def test_a_short_look_takes_no_place(clock: FakeClock) -> None:
    looks = Looks(LookBounds(of_key=1, at_once=1, wait_seconds=0.0), clock)
    await placed(looks, "a")
    with looks.look("a", "page") as look:
        assert await look.go_on()
        look.spend(FREE_OFFSETS)
        with pytest.raises(TooManyRequests) as refused:
            await look.go_on()
    assert refused.value.code == "busy"
    assert looks.refused == 1


@pytest.mark.parametrize("taken", [["a", "a"], ["b", "c", "d", "e"]])
async def test_a_look_waits_for_a_place_of_its_key_and_of_all(
    clock: FakeClock, taken: list[str]
) -> None:
    looks = Looks(LookBounds(wait_seconds=60.0), clock)
    others = [await placed(looks, key) for key in taken]
    waiting = asyncio.ensure_future(placed(looks, "a"))
    await asyncio.sleep(0)
    assert not waiting.done()
    others[0].leave()
    (await waiting).leave()
    for other in others:
        other.leave()
    assert not looks._taken


async def test_a_look_that_waits_or_rests_spends_no_time(clock: FakeClock) -> None:
    looks = Looks(LookBounds(seconds=2.0), clock)
    with looks.look("a", "page") as look:
        await look.place()
        clock.tick(1.0)
        look.leave()
        clock.tick(100.0)
        look.resume()
        assert await look.go_on()
        clock.tick(1.0)
        assert not await look.go_on()
    assert (looks.done["page"], looks.cut["page"]) == (1, 1)


async def test_a_look_that_fails_gives_its_place_back(clock: FakeClock) -> None:
    looks = Looks(LookBounds(of_key=1), clock)
    look = looks.look("a", "count")
    look.begin(0.0)
    await look.place()
    look.__exit__(None, None, None)
    (await placed(looks, "a")).leave()
    assert looks.done == {"count": 1}
