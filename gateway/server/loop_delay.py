"""How long the event loop keeps others waiting: a histogram of its delays."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from gateway.clock import Clock

# Seconds.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# One count for each bound and one beyond the last; then the sum, in microseconds.
WIDTH = len(BOUNDS) + 2
_NAME = "audit_gateway_loop_delay_seconds"
# Whatever keeps the loop for longer than the bound that is promised is seen; 50 times a second
# was most of what an idle gateway took of a processor.
_EVERY_SECONDS = 0.05


class LoopDelay:
    """Measures by how much a short sleep is late."""

    def __init__(self) -> None:
        self.counts = [0] * WIDTH

    async def run(self, clock: Clock) -> None:
        """Until cancelled."""
        while True:
            before = clock.monotonic()
            await clock.sleep(_EVERY_SECONDS)
            self.observe(clock.monotonic() - before - _EVERY_SECONDS)

    def observe(self, seconds: float) -> None:
        seconds = max(0.0, seconds)
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.counts[-1] += round(seconds * 1_000_000)


def lines_of(rows: Sequence[Sequence[int]]) -> Iterator[str]:
    """The histogram of all processes together, in Prometheus' text exposition format."""
    counts = [sum(column) for column in zip(*rows, strict=True)]
    yield f"# HELP {_NAME} By how much the event loop was late, looked at 20 times a second."
    yield f"# TYPE {_NAME} histogram"
    total = 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), counts[:-1], strict=True):
        total += count
        yield f'{_NAME}_bucket{{le="{bound}"}} {total}'
    yield f"{_NAME}_sum {counts[-1] / 1_000_000}"
    yield f"{_NAME}_count {total}"
