"""Trusted time: the last agreed time plus elapsed CLOCK_BOOTTIME.

A wall clock may be set to anything at any moment; the time that passes while a machine runs, or is
suspended, cannot. What keys, grants, retention and `recorded_at` go by is therefore `now()` here,
which asks no wall clock. The wall clock (the machine's own, or the database's where gateways share
one) is read about once a second, and compared:

| it is away from trusted time by | and | then |
| --- | --- | --- |
| at most 2 s | | it is followed, by at most 1 ms per second: drift, and what NTP slews |
| more | as before, or at first | a step: trusted time goes on, and the step waits |
| more | by another amount than the step that waits | another step: it waits from now on |
| more | for 15 minutes by the same amount | the step is adopted |
| at most 2 s | while a step waits | it has gone back, and nothing has happened |

Why 2 s: NTP itself sets a clock at once only beyond 0.128 s (chrony beyond 1 s), and slews what is
less by at most 0.5 ms per second; leap seconds are 1 s. So what lies below is correction, and what
lies above was set. Following at no more than twice the slew of NTP, a clock that is set by a little
again and again gets no further either. Why readings count for at most 60 s each: 15 minutes that
nobody looked at prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.clock import Clock, boottime_of

JUMP_SECONDS = 2.0
ADOPT_SECONDS = 900.0
_FOLLOW_RATE = 1e-3
_MOST_OBSERVED = 60.0
# For this long, a state kept by another process counts as the present view.
FRESH_SECONDS = 30.0


class Reading(msgspec.Struct, frozen=True):
    """Wall clock and CLOCK_BOOTTIME at one moment of a boot; `error`: uncertainty of the wall clock
    in seconds, if it was read over a network."""

    wall: float
    boottime: float
    boot_id: str
    error: float = 0.0


class ClockState(msgspec.Struct, frozen=True):
    """Kept trusted time, with the readings of that moment, and by whom."""

    trusted: float
    wall: float
    boottime: float
    boot_id: str
    by: str = ""

    def now(self, reading: Reading) -> float | None:
        """Trusted time at a reading, if it follows without trusting the wall clock."""
        if self.boot_id and self.boot_id == reading.boot_id and reading.boottime >= self.boottime:
            return self.trusted + (reading.boottime - self.boottime)
        return None

    def fresh(self, reading: Reading) -> float | None:
        """Trusted time at a reading, if it was kept within the last seconds."""
        now = self.now(reading)
        if now is not None:
            return now if reading.boottime - self.boottime <= FRESH_SECONDS else None
        # Another machine: both read the same wall clock, which was not set in between.
        elapsed = reading.wall - self.wall
        return self.trusted + elapsed if -reading.error <= elapsed <= FRESH_SECONDS else None


class WaitingStep(msgspec.Struct, frozen=True):
    """Step of the wall clock that is not adopted: its size, and the seconds it was observed."""

    seconds: float
    observed: float = 0.0


def initial_time(state: ClockState | None, reading: Reading) -> float:
    """Trusted time at the start of the process, in seconds since 1970.

    After a boot the wall clock is trusted, as a machine may be off for long, unless it is behind
    the kept time; a step that was waiting continues to wait.
    """
    if state is None:
        return reading.wall
    if (now := state.now(reading)) is not None:
        return now
    ahead = state.wall - state.trusted
    if abs(ahead) > JUMP_SECONDS and reading.wall >= state.wall - JUMP_SECONDS:
        return reading.wall - ahead
    return max(reading.wall, state.trusted)


class TrustedClock:
    """A `Clock` whose `now()` is trusted time: two additions, no waiting, no wall clock.

    `trusted` is trusted time at `reading`. `observe` takes the next reading.
    """

    def __init__(self, machine: Clock, reading: Reading, trusted: float) -> None:
        self._machine = machine
        # Bound directly: used several times per request.
        self.monotonic: Callable[[], float] = machine.monotonic
        self.boottime: Callable[[], float] = boottime_of(machine)
        self.began = machine.monotonic()
        self._offset = trusted - reading.boottime
        self._seen = reading
        self.waiting: WaitingStep | None = None
        # Numbers of steps of the wall clock, and of adopted ones.
        self.steps = 0
        self.adopted = 0
        self._evaluate(reading, 0.0)

    @classmethod
    def from_machine(
        cls, machine: Clock, state: ClockState | None = None, boot: str = ""
    ) -> TrustedClock:
        """Trusted clock over the machine's own clock, from the kept `state` if there is one."""
        reading = Reading(machine.now(), machine.boottime(), boot)
        return cls(machine, reading, initial_time(state, reading))

    def now(self) -> float:
        return self.boottime() + self._offset

    async def sleep(self, seconds: float) -> None:
        await self._machine.sleep(seconds)

    @property
    def offset(self) -> float:
        """Seconds that the wall clock was ahead of trusted time at the last reading."""
        return self._seen.wall - self._at(self._seen)

    def observe(self, reading: Reading) -> bool:
        """Evaluate a reading of the wall clock; return whether `now` or `waiting` changed."""
        elapsed = max(0.0, reading.boottime - self._seen.boottime)
        self._seen = reading
        return self._evaluate(reading, elapsed)

    def adopt(self, trusted: float, reading: Reading) -> None:
        """Set trusted time at a reading to what other processes, or the operator, agreed on."""
        self._offset = trusted - reading.boottime
        self._seen = reading
        away = reading.wall - trusted
        if abs(away) <= JUMP_SECONDS + reading.error:
            self.waiting = None
        elif self.waiting is None or not _same(self.waiting.seconds, away, reading):
            self.waiting = WaitingStep(away)

    def advance_to(self, trusted: float) -> None:
        """Advance to a time at which an event was recorded."""
        behind = trusted - self._at(self._seen)
        if behind > JUMP_SECONDS:
            self.adopt(trusted, self._seen)
            self.steps += 1

    def state(self, by: str) -> ClockState:
        """State to keep, as of the last reading."""
        seen = self._seen
        return ClockState(self._at(seen), seen.wall, seen.boottime, seen.boot_id, by)

    def _evaluate(self, reading: Reading, elapsed: float) -> bool:
        away = reading.wall - self._at(reading)
        if abs(away) <= JUMP_SECONDS + reading.error:
            most = _FOLLOW_RATE * elapsed
            self._offset += max(-most, min(most, away))
            changed, self.waiting = self.waiting is not None, None
            return changed
        if self.waiting is None or not _same(self.waiting.seconds, away, reading):
            self.steps += 1
            self.waiting = WaitingStep(away)
            return True
        observed = self.waiting.observed + min(elapsed, _MOST_OBSERVED)
        if observed < ADOPT_SECONDS:
            self.waiting = WaitingStep(self.waiting.seconds, observed)
            return False
        self.adopted += 1
        self.waiting = None
        self._offset += away
        return True

    def _at(self, reading: Reading) -> float:
        return reading.boottime + self._offset


def _same(step: float, away: float, reading: Reading) -> bool:
    """Whether a step is still the waiting one: drift within 15 minutes is smaller."""
    return abs(step - away) <= JUMP_SECONDS + reading.error
