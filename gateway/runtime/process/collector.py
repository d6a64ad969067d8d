"""Limits on the pauses of the garbage collector.

A full collection visits every object while all else waits: 50 ms with some thousand connections. So
objects that survived one are left out of the next. Nearly all garbage is freed without the
collector; circular garbage among the objects left out waits for a thorough collection, which runs
once there may be much of it.
"""

from __future__ import annotations

import gc

from gateway.clock import Clock

_THOROUGH_SECONDS = 3600.0
# Growth in objects since the last thorough collection, beside half as many again.
_LEAST_GROWTH = 500_000
_OLDEST = 2
# A full collection per 15,000 new objects, and none below 5,000: a hundred requests being answered
# have that many, nearly all short-lived.
_THRESHOLDS = (5_000, 0, 0)


class Collector:
    """Garbage collections of this process, from `begin` on."""

    def __init__(self) -> None:
        self._kept = 0

    def begin(self) -> None:
        """Leave out the present objects. (Those from before the fork are shared among workers.)"""
        gc.collect()
        gc.freeze()
        # How often small collections run depends on the size of the last one: collect once more.
        gc.set_threshold(*_THRESHOLDS)
        gc.collect()
        self._kept = gc.get_freeze_count()
        gc.callbacks.append(self._collected)

    def end(self) -> None:
        gc.callbacks.remove(self._collected)

    async def run(self, clock: Clock) -> None:
        """Run thorough collections when they are due, until cancelled."""
        while True:
            await clock.sleep(_THOROUGH_SECONDS)
            if gc.get_freeze_count() > max(self._kept * 1.5, self._kept + _LEAST_GROWTH):
                gc.unfreeze()
                # This leaves out what survives.
                gc.collect()
                self._kept = gc.get_freeze_count()

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == _OLDEST:
            gc.freeze()
