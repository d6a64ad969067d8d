"""A clock that tests set forward."""

from __future__ import annotations

from gateway.clock import SystemClock


class ShiftedClock(SystemClock):
    """The machine's clock, as if `shift` seconds more had passed, and its wall clock had been set
    by `step` seconds."""

    shift = 0.0
    step = 0.0

    def now(self) -> float:
        return super().now() + self.shift + self.step

    def boottime(self) -> float:
        return super().boottime() + self.shift
