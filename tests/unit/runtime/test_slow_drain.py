"""The end of a gateway: thousands of streams do not all come back to the others at once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from gateway.runtime.drain import drain
from gateway.wire.framing import RESTART, End

if TYPE_CHECKING:
    from tests.conftest import FakeClock


class Hub:
    """Streams that are gone when they are told to end; when each of them was."""

    def __init__(self, clock: FakeClock, count: int) -> None:
        self.subscriptions: dict[Any, None] = dict.fromkeys(range(count))
        self.ending: dict[Any, None] = {}
        self.ended: list[tuple[float, int]] = []
        self.emptied = SimpleNamespace(until=self._at_once)
        self._clock = clock

    def end(self, subscription: int, end: End) -> None:
        assert end is RESTART
        if subscription in self.subscriptions:
            del self.subscriptions[subscription]
            self.ended.append((self._clock.monotonic(), subscription))

    async def _at_once(self, condition: Any, seconds: float) -> None:
        assert condition()


@pytest.mark.parametrize(
    ("count", "seconds"), [(0, 0.0), (150, 0.0), (1000, 0.5), (10_000, 4.9), (50_000, 4.9)]
)
async def test_streams_end_spread_over_half_of_the_drain_time(
    clock: FakeClock, count: int, seconds: float
) -> None:
    hub = Hub(clock, count)
    context: Any = SimpleNamespace(
        ready=True,
        appends=SimpleNamespace(notify=lambda: None),
        hub=hub,
        clock=clock,
        settings=SimpleNamespace(server=SimpleNamespace(drain_timeout=10.0)),
    )
    draining = asyncio.create_task(drain(context))
    await clock.advance(10)
    assert draining.done()
    await draining
    assert sorted(name for _, name in hub.ended) == list(range(count)), "each once"
    if count:
        times = [at for at, _ in hub.ended]
        assert times[-1] - times[0] == pytest.approx(seconds, abs=0.15)
        assert max(times.count(at) for at in set(times)) <= max(200, count // 50)
    if count > 200:
        assert [name for _, name in hub.ended] != list(range(count)), "in no order of their age"
