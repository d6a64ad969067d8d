"""Watch of the wall clock: keeps trusted time in step with it, and with other processes."""

from __future__ import annotations

import logging
import secrets

from gateway.clock import Clock, until_next_poll
from gateway.errors import GatewayError
from gateway.oversight.clock_store import ClockStore, keep_state, kept_state, read_clock
from gateway.oversight.detection.finding import CLOCK_JUMP
from gateway.oversight.detection.findings import Findings
from gateway.oversight.detection.signals import Signal
from gateway.trusted_clock import JUMP_SECONDS, ClockState, Reading, TrustedClock

_POLL_SECONDS = 1.0
_KEEP_SECONDS = 10.0
# Readings that took longer are too inexact.
_MOST_ERROR = 1.0
_LOGGER = logging.getLogger(__name__)


class ClockWatch:
    """Watch of one process. `machine` is the clock of the machine itself."""

    def __init__(
        self, store: ClockStore, machine: Clock, clock: TrustedClock, findings: Findings
    ) -> None:
        self._store = store
        self._machine = machine
        self._clock = clock
        self._findings = findings
        self._by = secrets.token_hex(8)
        self._told = 0
        self._adopted = clock.adopted
        # Processes that run already store their time first.
        self._keep_at = clock.boottime() + _KEEP_SECONDS
        self._away = False

    async def run(self) -> None:
        """Watch the wall clock until cancelled."""
        while True:
            try:
                await self.poll()
                self._away = False
            except GatewayError as error:
                # Trusted time goes on without a wall clock.
                if not self._away:
                    _LOGGER.warning("the wall clock is not read, trying again: %s", error.detail)
                self._away = True
            await self._machine.sleep(until_next_poll(self._clock, _POLL_SECONDS))

    async def poll(self) -> None:
        """Read the wall clock, and the trusted time of other processes."""
        reading = await read_clock(self._store, self._machine)
        if reading.error > _MOST_ERROR:
            return
        state = await kept_state(self._store)
        changed = self._take(state, reading)
        changed = self._clock.observe(reading) or changed
        adopting = self._clock.adopted > self._adopted
        if adopting:
            _LOGGER.warning("the step of the wall clock has stayed: it is trusted from now on")
        await self._tell(reading)
        # Stored at once where nothing is, or a command would trust a wrong clock of its machine.
        if changed or state is None or reading.boottime >= self._keep_at:
            await keep_state(self._store, self._clock.state(self._by), anyway=adopting)
            self._adopted = self._clock.adopted
            self._keep_at = reading.boottime + _KEEP_SECONDS

    async def close(self) -> None:
        """Store trusted time for the next start."""
        try:
            await keep_state(self._store, self._clock.state(self._by), anyway=False)
        except GatewayError as error:
            _LOGGER.warning("trusted time is not kept: %s", error.detail)

    def _take(self, state: ClockState | None, reading: Reading) -> bool:
        """Adopt the time that another process has stored, if it differs."""
        if state is None or state.by == self._by:
            return False
        theirs = state.fresh(reading)
        away = None if theirs is None else theirs - self._clock.now()
        if theirs is None or away is None or abs(away) <= JUMP_SECONDS + reading.error:
            return False
        _LOGGER.warning("trusted time moves by %+.0f s, as other processes have agreed", away)
        self._clock.adopt(theirs, reading)
        return True

    async def _tell(self, reading: Reading) -> None:
        """Add a finding for new steps; what the store does not take is added at the next poll."""
        new, waiting = self._clock.steps - self._told, self._clock.waiting
        if not new:
            return
        seconds = round(self._clock.offset if waiting is None else waiting.seconds)
        _LOGGER.warning("%s", step_warning(seconds))
        data = {"seconds": seconds, "adopted": self._clock.adopted}
        await self._findings.add(Signal(CLOCK_JUMP, self._clock.now(), new, data), "")
        self._told += new


def step_warning(seconds: float) -> str:
    """Warning for people while a step of the wall clock waits."""
    return (
        f"the wall clock was set by {seconds:+.0f} s and is not trusted: time goes on without it; "
        "if it stays it is adopted after 15 minutes, or now by `audit-gateway log trust-clock`"
    )
