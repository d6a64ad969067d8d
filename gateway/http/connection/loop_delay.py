"""How long the event loop keeps others waiting: a histogram of its delays."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from gateway.clock import Clock, until_beat
from gateway.http.connection.connections import Connections

# Seconds.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# One count for each bound and one beyond the last; then the sum, in microseconds.
WIDTH = len(BOUNDS) + 2
_NAME = "audit_gateway_loop_delay_seconds"
# Whatever keeps the loop for longer than the bound that is promised is seen. To wake for it is most
# of what a gateway without connections would take of a processor.
_EVERY_SECONDS = 0.05
_LONG_SECONDS = 3600.0


class LoopDelay:
    """Measures by how much a short sleep is late."""

    def __init__(self) -> None:
        self.counts = [0] * WIDTH

    async def run(self, clock: Clock, connections: Connections) -> None:
        """Until cancelled. Where there is no connection, nobody waits for the loop."""
        while True:
            while not connections.open:
                await connections.entered.until(lambda: connections.open > 0, _LONG_SECONDS)
            pause = until_beat(clock, _EVERY_SECONDS)
            due = clock.monotonic() + pause
            await clock.sleep(pause)
            self.observe(clock.monotonic() - due)

    def observe(self, seconds: float) -> None:
        seconds = max(0.0, seconds)
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.counts[-1] += round(seconds * 1_000_000)


def lines_of(rows: Sequence[Sequence[int]]) -> Iterator[str]:
    """The histogram of all processes together, in Prometheus' text exposition format."""
    counts = [sum(column) for column in zip(*rows, strict=True)]
    yield (
        f"# HELP {_NAME} By how much the event loop was late, looked at 20 times a second while "
        "there are connections."
    )
    yield f"# TYPE {_NAME} histogram"
    total = 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), counts[:-1], strict=True):
        total += count
        yield f'{_NAME}_bucket{{le="{bound}"}} {total}'
    yield f"{_NAME}_sum {counts[-1] / 1_000_000}"
    yield f"{_NAME}_count {total}"
