"""Deadlines of tests: they follow the machine's load, and are never below those of a quiet one."""

from __future__ import annotations

import pytest

from tests.support import machine_time
from tests.support.machine_time import Stopwatch, eventually, patience, slowness, wait_until


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten processes for each core."""
    monkeypatch.setattr(machine_time, "_load", lambda: 10.0)


def test_no_machine_is_faster_than_a_quiet_one() -> None:
    assert slowness() >= 1
    assert patience(2) >= 2


@pytest.mark.usefixtures("busy")
def test_a_deadline_grows_with_the_load() -> None:
    assert slowness() >= 10
    assert patience(2) >= 20


def test_a_stopwatch_counts_seconds_of_a_quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(machine_time, "_speed", lambda: 2.0)
    monkeypatch.setattr(machine_time, "_load", lambda: 1.0)
    monkeypatch.setattr(machine_time.time, "monotonic", lambda: now[0])
    watch = Stopwatch()
    now[0] += 12
    assert (watch.elapsed, watch.seconds) == (12, 6)


def test_a_stopwatch_counts_the_load_that_came_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(machine_time, "_speed", lambda: 1.0)
    monkeypatch.setattr(machine_time, "_load", lambda: 1.0 if now[0] == 100 else 4.0)
    monkeypatch.setattr(machine_time.time, "monotonic", lambda: now[0])
    watch = Stopwatch()
    now[0] += 12
    assert watch.seconds == 3


def test_a_condition_that_never_holds_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_time, "_load", lambda: 1.0)
    with pytest.raises(AssertionError, match="pigs fly"):
        wait_until(lambda: False, "pigs fly", seconds=0.001)


async def test_a_condition_that_holds_in_the_end_ends_the_wait() -> None:
    turns = iter((False, False, True))
    await eventually(lambda: next(turns))
    assert list(turns) == []
