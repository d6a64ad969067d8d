"""The histogram of how late the event loop is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.errors import GatewayError
from gateway.http.connection.connections import Connections
from gateway.http.connection.loop_delay import BOUNDS, WIDTH, LoopDelay, lines_of

if TYPE_CHECKING:
    from tests.conftest import FakeClock


def test_delays_are_counted_up_to_each_bound_for_all_processes_together() -> None:
    one, other = LoopDelay(), LoopDelay()
    for seconds in (-0.1, 0.001, 0.0011, 0.3):
        one.observe(seconds)
    other.observe(60.0)
    lines = dict(line.rsplit(" ", 1) for line in lines_of([one.counts, other.counts]))
    name = "audit_gateway_loop_delay_seconds"
    assert lines[name + '_bucket{le="0.001"}'] == "2"
    assert lines[name + '_bucket{le="0.0025"}'] == "3"
    assert lines[name + '_bucket{le="0.25"}'] == "3"
    assert lines[name + '_bucket{le="0.5"}'] == "4"
    assert lines[name + '_bucket{le="10.0"}'] == "4"
    assert lines[name + '_bucket{le="+Inf"}'] == lines[name + "_count"] == "5"
    assert float(lines[name + "_sum"]) == 60.3021
    assert len(one.counts) == WIDTH == len(BOUNDS) + 2


class Peer:
    def refuse(self, error: GatewayError) -> None:
        raise error

    def abort(self) -> None:
        raise AssertionError


async def test_a_stop_of_the_loop_is_seen_from_the_first_connection_on(clock: FakeClock) -> None:
    delay, connections = LoopDelay(), Connections(9, 9, 1, 1)
    running = asyncio.create_task(delay.run(clock, connections))
    await clock.advance(0.125)
    assert sum(delay.counts) == 0, "there is nobody whom it could keep waiting"
    leave = connections.enter(Peer(), "192.0.2.1")
    assert leave is not None
    await clock.advance(0.125)
    assert sum(delay.counts[:-1]) == 3
    clock.tick(0.7)
    await clock.advance(0)
    assert delay.counts[BOUNDS.index(1.0)] == 1
    leave()
    await clock.advance(1.0)
    assert sum(delay.counts[:-1]) == 5
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_stop_of_the_shortest_time_that_counts_is_never_missed(clock: FakeClock) -> None:
    delay, connections = LoopDelay(), Connections(9, 9, 1, 1)
    connections.enter(Peer(), "192.0.2.1")
    running = asyncio.create_task(delay.run(clock, connections))
    for _ in range(20):
        await clock.advance(0.013)
        before = delay.counts[-1]
        clock.tick(0.0501)
        await clock.advance(0)
        assert delay.counts[-1] > before
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
