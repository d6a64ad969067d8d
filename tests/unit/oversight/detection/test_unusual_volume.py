"""The usual volume of a key: what is found, what is not cried over, and what is learned."""

from __future__ import annotations

import math
import random
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.oversight.detection.baseline import (
    LEAST_EVENTS,
    Alarm,
    Baseline,
    Volume,
    decode_volume,
    encode_volume,
    volume_data,
)
from tests.support import synthetic_month, synthetic_requests
from tests.support.examples import THOROUGH, examples

DAY = 1440
START = 28_333_440


def learned(counts: list[int], warm_up: int = 0) -> Baseline:
    baseline = Baseline()
    for minute, count in enumerate(counts):
        baseline.observe(START + minute, count, warm_up)
    return baseline


def alarms(baseline: Baseline, counts: list[int], warm_up: int = 0) -> list[int]:
    """The places of the counts that raised an alarm, from 1; the baseline goes on from its end."""
    begin = START + baseline.minutes
    return [
        place
        for place, count in enumerate(counts, start=1)
        if baseline.observe(begin + place - 1, count, warm_up) is not None
    ]


def noise(rng: random.Random, mean: float, minutes: int) -> list[int]:
    return [synthetic_month.poisson(rng, mean) for _ in range(minutes)]


@pytest.mark.parametrize("rate", [12, 100, 20_000])
def test_a_tenfold_spike_is_found_within_five_minutes(rate: int) -> None:
    rng = random.Random(rate)
    baseline = learned(noise(rng, rate, 8 * DAY))
    assert alarms(baseline, noise(rng, rate, 60)) == []
    found = alarms(baseline, noise(rng, 10 * rate, 10))
    assert found[0] <= 5
    assert found == list(range(found[0], 11)), "and for as long as it lasts"


def test_an_hourly_batch_of_eight_times_is_not_cried_over_after_the_warm_up() -> None:
    rng = random.Random(8)
    counts = [
        synthetic_month.poisson(rng, 800 if minute % 60 < 5 else 100) for minute in range(12 * DAY)
    ]
    assert alarms(Baseline(), counts, warm_up=DAY) == []


def test_what_is_busy_by_day_is_not_cried_over_in_the_morning() -> None:
    result = synthetic_month.volume_month("working hours only", 1, times=1, days=16)
    assert result.false == 0


def test_a_nightly_batch_is_usual_once_it_came_on_two_nights() -> None:
    rng = random.Random(3)

    def night(minute: int) -> int:
        return synthetic_month.poisson(rng, 2000 if 120 <= minute % DAY < 140 else 100)

    baseline = Baseline()
    days = [alarms(baseline, [night(minute) for minute in range(DAY)]) for _ in range(6)]
    # The first night is learned with all the rest; the second is the first that is measured.
    assert days[1] != []
    assert days[3:] == [[], [], []]


def test_a_weekly_batch_is_usual_in_the_hour_in_which_it_came_a_week_ago() -> None:
    rng = random.Random(4)

    def weekly(minute: int) -> int:
        times = 20 if 180 <= minute % (7 * DAY) < 200 else 1
        return synthetic_month.poisson(rng, 100 * times)

    baseline = Baseline()
    weeks = [alarms(baseline, [weekly(minute) for minute in range(7 * DAY)]) for _ in range(3)]
    assert weeks[0] != []
    assert weeks[1:] == [[], []]


def test_a_spike_by_day_is_found_though_there_is_a_batch_by_night() -> None:
    result = synthetic_month.volume_month("batch of 20 times, each night", 1, times=10)
    assert result.within_five == result.spikes


def test_the_uneven_is_not_cried_over_and_a_spike_of_it_is_found() -> None:
    rng = random.Random(12)
    counts = [round(synthetic_month.noisy(rng, 0)) for _ in range(12 * DAY)]
    baseline = Baseline()
    assert alarms(baseline, counts, warm_up=3 * DAY) == []
    assert alarms(baseline, [10 * count for count in counts[:10]])[0] <= 5


@pytest.mark.parametrize(
    ("deviation", "guard", "found"),
    [
        (0.1, 0.0, True),
        (0.1, 1.5, True),
        (0.1, 2.0, False),
        (1.0, 0.0, True),
        (1.0, 1.5, False),
    ],
)
def test_an_alarm_is_far_above_the_guard_or_many_deviations_away(
    deviation: float, guard: float, found: bool
) -> None:
    baseline = Baseline(
        minutes=20_000, mean=math.log1p(100), variance=deviation**2, recent=(1000,) * 5,
        hour=START // 60, guard=guard, active=1.0,
    )  # fmt: skip
    # Ten times as much as expected: 2.3, as a logarithm.
    assert (baseline.observe(START, 1000, 0) is not None) is found


def test_a_key_that_is_seldom_used_is_not_cried_over() -> None:
    for seed in range(3):
        result = synthetic_month.volume_month("used twice a day", seed, times=1)
        assert result.false == 0


def test_the_first_minutes_of_a_key_are_no_peak() -> None:
    """Everything is unusual then; a week later, in the same hour, that must hide nothing."""
    rng = random.Random(13)
    baseline = learned(noise(rng, 100, 7 * DAY))
    assert alarms(baseline, noise(rng, 1500, 10)) != []


def test_what_was_usual_before_a_long_silence_is_not_usual_after_it() -> None:
    def hourly(minutes: int) -> list[int]:
        return [5000 if minute % 60 < 5 else 100 for minute in range(minutes)]

    baseline = learned(hourly(8 * DAY))
    assert alarms(baseline, hourly(120)) == []
    # Over ten days every hour of the week has been idle.
    begin = START + 8 * DAY + 120
    baseline.idle(begin, 10 * DAY, 0)
    assert alarms(baseline, hourly(10)) != []


def test_nothing_is_called_unusual_before_the_warm_up_is_over() -> None:
    rng = random.Random(5)
    baseline = learned(noise(rng, 100, 2 * DAY))
    assert alarms(baseline, noise(rng, 5000, 30), warm_up=3 * DAY) == []
    baseline = learned(noise(rng, 100, 3 * DAY))
    assert alarms(baseline, noise(rng, 5000, 30), warm_up=3 * DAY) != []


def test_a_few_events_are_no_volume() -> None:
    baseline = learned([0] * (8 * DAY))
    assert alarms(baseline, [LEAST_EVENTS - 1]) == []
    baseline = learned([0] * (8 * DAY))
    assert alarms(baseline, [LEAST_EVENTS]) == [1]


def test_three_times_as_much_is_no_alarm() -> None:
    rng = random.Random(6)
    baseline = learned(noise(rng, 100, 8 * DAY))
    assert alarms(baseline, noise(rng, 300, 30)) == []


def test_a_spike_is_not_learned_as_usual_at_once() -> None:
    rng = random.Random(7)
    baseline = learned(noise(rng, 100, 8 * DAY))
    assert alarms(baseline, noise(rng, 1000, 120))[-1] == 120
    alarms(baseline, noise(rng, 100, 600))
    assert alarms(baseline, noise(rng, 1000, 10)) != []


def test_a_lasting_change_is_usual_after_some_days() -> None:
    rng = random.Random(9)
    baseline = learned(noise(rng, 100, 8 * DAY))
    days = [alarms(baseline, noise(rng, 600, DAY)) for _ in range(8)]
    assert days[0] != []
    assert days[7] == []


def test_an_alarm_says_how_much_it_was_and_how_much_is_usual() -> None:
    rng = random.Random(11)
    baseline = learned(noise(rng, 100, 8 * DAY))
    found = [baseline.observe(START + 8 * DAY + n, 1000, 0) for n in range(5)][-1]
    assert found is not None
    assert found.rate == 1000
    assert 90 < found.expected < 110
    assert volume_data(Alarm(1000.0, 99.96)) == {
        "per_minute": 1000.0, "expected_per_minute": 100.0, "times": 10.0,
    }  # fmt: skip
    assert volume_data(Alarm(50.0, 0.0))["times"] == 50.0


def test_minutes_without_anything_count_as_such() -> None:
    idle, seen = learned([100] * 300), learned([100] * 300)
    idle.idle(START + 300, 240, 0)
    for minute in range(240):
        seen.observe(START + 300 + minute, 0, 0)
    assert idle == seen


def test_a_long_silence_costs_no_more_than_a_day_of_it() -> None:
    baseline = learned([100] * 300)
    baseline.idle(START + 300, 400 * DAY, 0)
    assert baseline.minutes == 300 + 400 * DAY
    assert baseline.mean < 2.5
    assert alarms(baseline, [100, 100, 100]) != [], "it is unusual by then"


@settings(max_examples=examples(40))
@given(st.lists(st.integers(0, 10**9), max_size=400), st.integers(0, 100))
def test_a_baseline_stays_sound_whatever_it_is_fed(counts: list[int], warm_up: int) -> None:
    baseline = learned(counts, warm_up)
    assert baseline.minutes == len(counts)
    assert 0 <= baseline.mean <= 21
    assert 0 <= baseline.variance <= 21**2
    assert 0 <= baseline.active <= 1.000001
    assert 0 <= baseline.guard <= 21
    assert len(baseline.hours) == len(baseline.weights) == len(baseline.peaks) == 4 * 168


# A volume that several processes add to


def test_what_several_processes_saw_of_a_minute_is_one_count() -> None:
    together, alone = Volume(), Volume()
    for minute in range(START, START + 300):
        for part in (20, 30, 50):
            together.add(minute, part, 0)
        alone.add(minute, 100, 0)
        if minute % 3:
            together.close(minute, 0)
            together.close(minute, 0)
    together.close(START + 299, 0)
    alone.close(START + 299, 0)
    assert together == alone


def test_a_minute_is_measured_when_it_is_closed_or_the_next_one_begins() -> None:
    for close in (True, False):
        volume = Volume(baseline=learned([100] * (8 * DAY)))
        first = START + 8 * DAY
        found: list[Any] = []
        for minute in range(first, first + 6):
            found.append(volume.add(minute, 5000, 0))
            if close:
                found.append(volume.close(minute, 0))
        assert any(found)
        assert volume.baseline.minutes == 8 * DAY + (6 if close else 5)


def test_what_comes_late_counts_for_the_next_minute() -> None:
    volume = Volume()
    volume.add(START, 10, 0)
    volume.close(START, 0)
    volume.add(START, 7, 0)
    assert (volume.minute, volume.count) == (START + 1, 7)
    volume.add(START + 1, 3, 0)
    assert volume.count == 10


def test_the_minutes_between_two_uses_are_seen_as_idle() -> None:
    volume = Volume()
    volume.add(START, 10, 0)
    volume.close(START, 0)
    volume.add(START + 60, 10, 0)
    volume.close(START + 60, 0)
    assert volume.baseline.minutes == 61


def test_a_volume_survives_being_written_down() -> None:
    volume = Volume(START, 7, False, learned([100] * 3000))
    document = encode_volume(volume)
    assert decode_volume(document) == volume
    assert len(document) < 2500
    assert decode_volume(None) == Volume()


# The evaluation


@pytest.mark.slow
def test_the_documented_evaluation_is_current() -> None:
    text = synthetic_month.DOCUMENT.read_text(encoding="utf-8")
    lines = text.splitlines()
    if THOROUGH:
        assert synthetic_month.written(text, synthetic_month.evaluation()) == text
    for name in ("steady, 100 a minute", "batch of 8 times, each hour"):
        assert synthetic_month.volume_row(name, synthetic_month.SEEDS) in lines
    assert synthetic_requests.request_row("12 a minute", synthetic_month.SEEDS) in lines
    assert set(synthetic_requests.operator_table()) <= set(lines)
    for signal, kind in product(synthetic_month.INCIDENTS, ("streams", "a person")):
        assert synthetic_month.signal_month(kind, 0, signal)[1] < math.inf, (signal, kind)
    steady = [line.split(" | ") for line in lines if line.startswith("| steady")]
    assert len(steady) == 3
    for cells in steady:
        assert cells[2] == "8 of 8", "within five minutes"
        assert cells[-1] == "0.0 |"
