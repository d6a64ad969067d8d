"""Trusted time: the rule by which a wall clock is adopted, without one."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from gateway.trusted_clock import ClockState, Reading, TrustedClock, initial_time

T0 = 1_700_000_000.0
DAY = 86_400.0
AHEAD = 60 * DAY


class Seen(NamedTuple):
    """What is to be seen after a row of the table."""

    trusted: float
    waits: bool
    steps: int
    adopted: int


# Per row: readings as (seconds until then, wall clock ahead of true time) and how often; what is
# to be seen then, with trusted time as seconds ahead of true time.
TABLE: dict[str, tuple[list[tuple[float, float, int]], Seen]] = {
    "nothing happens": ([(1, 0, 60)], Seen(0, False, 0, 0)),
    "60 days ahead for ten seconds": ([(1, 0, 5), (1, AHEAD, 10), (1, 0, 5)],
                                      Seen(0, False, 1, 0)),
    "60 days ahead for 14 minutes": ([(1, AHEAD, 840)], Seen(0, True, 1, 0)),
    "a step that stays is adopted after 15 minutes": ([(1, AHEAD, 902)], Seen(AHEAD, False, 1, 1)),
    "a step back that stays is adopted, too": ([(1, -3600, 902)], Seen(-3600, False, 1, 1)),
    "another step begins the 15 minutes anew": ([(1, 3600, 800), (1, 7200, 800)],
                                                Seen(0, True, 2, 0)),
    "a clock that flaps is never adopted": ([(1, AHEAD, 800), (1, 0, 1), (1, AHEAD, 800)],
                                            Seen(0, True, 2, 0)),
    "15 minutes that nobody looked at prove nothing": ([(1, AHEAD, 1), (3600, AHEAD, 2)],
                                                       Seen(0, True, 1, 0)),
    "a suspended machine loses no time": ([(1, 0, 1), (DAY, 0, 1)], Seen(0, False, 0, 0)),
    "a leap second is followed": ([(1, -1, 1200)], Seen(-1, False, 0, 0)),
    "a little again and again gets no further": ([(1, 1.9, 60), (1, 1.95, 60)],
                                                 Seen(0.12, False, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize("row", TABLE)
def test_a_wall_clock_is_adopted_as_the_table_says(row: str, clock: Any) -> None:
    readings, seen = TABLE[row]
    trusted = TrustedClock.from_machine(clock, boot="a")
    true = 0.0
    for seconds, ahead, times in readings:
        for _ in range(times):
            clock.tick(seconds)
            true += seconds
            trusted.observe(Reading(T0 + true + ahead, clock.boottime(), "a"))
    assert trusted.now() - T0 - true == pytest.approx(seen.trusted, abs=0.01)
    assert (trusted.waiting is not None, trusted.steps, trusted.adopted) == seen[1:]


def test_the_slew_of_ntp_is_followed_and_is_no_jump(clock: Any) -> None:
    trusted = TrustedClock.from_machine(clock, boot="a")
    for second in range(1, 100_000):
        clock.tick(1)
        wall = T0 + second * (1 + 500e-6)
        trusted.observe(Reading(wall, clock.boottime(), "a"))
        assert trusted.now() == pytest.approx(wall, abs=0.01)
    assert trusted.steps == 0


def test_now_asks_no_wall_clock(clock: Any) -> None:
    trusted = TrustedClock.from_machine(clock, boot="a")
    clock.step(AHEAD)
    assert trusted.now() == T0
    clock.tick(5)
    assert trusted.now() == T0 + 5


KEPT = ClockState(T0, T0, 1000.0, "a")
STEPPED = ClockState(T0, T0 + AHEAD, 1000.0, "a")


@pytest.mark.parametrize(
    ("state", "reading", "trusted"),
    [
        (None, Reading(T0, 5, "b"), T0),
        # The same boot: the wall clock is not asked.
        (KEPT, Reading(T0 + AHEAD, 1010, "a"), T0 + 10),
        (KEPT, Reading(T0 - AHEAD, 1010, "a"), T0 + 10),
        # A long stop is legitimate.
        (KEPT, Reading(T0 + AHEAD, 5, "b"), T0 + AHEAD),
        # A machine that has lost its clock.
        (KEPT, Reading(0.0, 5, "b"), T0),
        # A virtual machine that was set back within one boot.
        (KEPT, Reading(T0 + 20, 900, "a"), T0 + 20),
        # Restarted while a step waited, which stays or is taken back.
        (STEPPED, Reading(T0 + AHEAD + 30, 5, "b"), T0 + 30),
        (STEPPED, Reading(T0 + 30, 5, "b"), T0 + 30),
        # Where the boot is not known it is another one.
        (ClockState(T0, T0, 1000.0, ""), Reading(T0 + 30, 1010, ""), T0 + 30),
    ],
)
def test_at_the_start_the_wall_clock_is_compared_with_what_was_kept(
    state: ClockState | None, reading: Reading, trusted: float
) -> None:
    assert initial_time(state, reading) == trusted


def test_a_clock_behind_the_newest_event_waits_to_be_believed(clock: Any) -> None:
    trusted = TrustedClock.from_machine(clock, boot="a")
    trusted.advance_to(T0 - 100)
    assert (trusted.now(), trusted.steps) == (T0, 0)
    trusted.advance_to(T0 + DAY)
    assert trusted.now() == T0 + DAY
    assert trusted.waiting is not None
    assert trusted.offset == -DAY


def test_what_another_process_has_just_kept_is_taken_over(clock: Any) -> None:
    here = Reading(T0 + AHEAD, 50.0, "here")
    assert ClockState(T0, T0 + AHEAD - 5, 9.0, "there").fresh(here) == T0 + 5
    # Kept before the shared clock was set, or long ago.
    assert ClockState(T0, T0 - 5, 9.0, "there").fresh(here) is None
    assert ClockState(T0, T0 + AHEAD, 10.0, "here").fresh(here) is None
    assert ClockState(T0, 0.0, 40.0, "here").fresh(here) == T0 + 10


def test_an_uncertain_reading_is_no_step(clock: Any) -> None:
    trusted = TrustedClock.from_machine(clock, boot="a")
    trusted.observe(Reading(T0 + 4, clock.boottime(), "a", error=3.0))
    assert trusted.waiting is None
