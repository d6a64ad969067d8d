"""The garbage collector's pauses: what stays is looked at once.

A full collection looks at every object there is, with everything else waiting: for some thousands
of connections that takes 50 ms. So what has survived one is left out of the next ones. Nearly all
garbage is freed without the collector; what becomes garbage in a circle after it was left out is
found by a thorough collection, once it may be much.
"""

from __future__ import annotations

import gc

from gateway.clock import Clock

_THOROUGH_SECONDS = 3600.0
# Of so many objects more than after the last thorough collection, and half as many again.
_LEAST_GROWTH = 500_000
_OLDEST = 2
# A full collection for every 15,000 objects more. None at all below 5,000: that many are there for
# as long as a hundred requests are being answered, and nearly all of them are gone with these.
_THRESHOLDS = (5_000, 0, 0)


class Collector:
    """The collections of this process, from `begin` on."""

    def __init__(self) -> None:
        self._kept = 0

    def begin(self) -> None:
        """Leave out what is here now. (What was left out already is shared among workers.)"""
        gc.collect()
        gc.freeze()
        # Collections that look at little can come often. How often depends on what the last one
        # has looked at, so another one is made now.
        gc.set_threshold(*_THRESHOLDS)
        gc.collect()
        self._kept = gc.get_freeze_count()
        gc.callbacks.append(self._collected)

    def end(self) -> None:
        gc.callbacks.remove(self._collected)

    async def run(self, clock: Clock) -> None:
        """Look once in a while whether a thorough collection is due. Until cancelled."""
        while True:
            await clock.sleep(_THOROUGH_SECONDS)
            if gc.get_freeze_count() > max(self._kept * 1.5, self._kept + _LEAST_GROWTH):
                gc.unfreeze()
                # Leaves out what survives it.
                gc.collect()
                self._kept = gc.get_freeze_count()

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == _OLDEST:
            gc.freeze()
