"""How late the event loop is: its histogram, and the longest delay."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from gateway.errors import GatewayError
from gateway.http.connection.connections import Connections
from gateway.http.connection.loop_delay import BOUNDS, LoopDelay

if TYPE_CHECKING:
    from tests.conftest import FakeClock


def test_the_longest_delay_is_seen_for_one_to_two_minutes_and_then_forgotten() -> None:
    delay = LoopDelay()
    delay.observe(0.3, 1000.0)
    delay.observe(-0.1, 1001.0)
    delay.observe(0.2, 1061.0)
    assert [delay.longest(now) for now in (1061.0, 1120.0, 1121.0, 1180.0)] == [0.3, 0.3, 0.2, 0.2]
    assert delay.longest(1181.0) == 0.0
    delay.observe(0.1, 1190.0)
    assert delay.longest(1190.0) == 0.1
    assert delay.seconds.cells[-1] == pytest.approx(0.6), "none is shorter than nothing"


class Peer:
    def refuse(self, error: GatewayError) -> None:
        raise error

    def abort(self) -> None:
        raise AssertionError


async def test_a_stop_of_the_loop_is_seen_from_the_first_connection_on(clock: FakeClock) -> None:
    delay, connections = LoopDelay(), Connections(9, 9, 1, 1)
    running = asyncio.create_task(delay.run(clock, connections))
    await clock.advance(0.125)
    assert sum(delay.seconds.cells) == 0, "there is nobody whom it could keep waiting"
    leave = connections.enter(Peer(), "192.0.2.1")
    assert leave is not None
    await clock.advance(0.125)
    assert sum(delay.seconds.cells[:-1]) == 3
    clock.tick(0.7)
    await clock.advance(0)
    assert delay.seconds.cells[BOUNDS.index(1.0)] == 1
    leave()
    await clock.advance(1.0)
    assert sum(delay.seconds.cells[:-1]) == 5
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_stop_of_the_shortest_time_that_counts_is_never_missed(clock: FakeClock) -> None:
    delay, connections = LoopDelay(), Connections(9, 9, 1, 1)
    connections.enter(Peer(), "192.0.2.1")
    running = asyncio.create_task(delay.run(clock, connections))
    for _ in range(20):
        await clock.advance(0.013)
        before = delay.seconds.cells[-1]
        clock.tick(0.0501)
        await clock.advance(0)
        assert delay.seconds.cells[-1] > before
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
