"""A gateway whose clock was wrong when it was started for the first time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.event import Draft
from gateway.oversight.clock_store import keep_state
from gateway.runtime.compose import running
from gateway.runtime.stores import open_keys
from gateway.settings.declarations import SECTIONS, Settings
from gateway.trusted_clock import ClockState
from tests.conftest import START, FakeClock

DAY = 86400.0


async def test_events_recorded_by_a_wrong_clock_move_no_trusted_time_at_a_later_start(
    tmp_path: Path, draft: Callable[..., Draft]
) -> None:
    sections = {name: of() for name, of in SECTIONS.items()}
    sections["server"] = SECTIONS["server"](port=0)
    settings = Settings(data=tmp_path / "data", **sections)
    async with running(settings, FakeClock(START + 60 * DAY)) as started:
        await started.context.log.append([[draft()]])
    store = await open_keys(settings)
    # As `log trust-clock` does once the clock of the machine is right.
    await keep_state(store, ClockState(START, START, 0.0, "", by="trust-clock"), anyway=True)
    await store.close()
    later = START + 3600
    async with running(settings, FakeClock(later)) as started:
        assert abs(started.context.clock.now() - later) < DAY
