"""The histogram of how late the event loop is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.server.loop_delay import BOUNDS, WIDTH, LoopDelay, lines_of

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


async def test_a_stop_of_the_loop_is_seen(clock: FakeClock) -> None:
    delay = LoopDelay()
    running = asyncio.create_task(delay.run(clock))
    await clock.advance(0.125)
    assert sum(delay.counts[:-1]) == 2
    clock.tick(0.7)
    await clock.advance(0)
    assert delay.counts[BOUNDS.index(1.0)] == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
