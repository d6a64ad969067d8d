"""Windows and steps of usage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins

from gateway.access.usage.windows import DAY, HOUR, MAX_ROWS, MINUTE, TIERS, Row, fold, plan
from gateway.errors import InvalidRequest

NOW = 1_700_000_000.0
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def test_a_day_in_hours_is_24_rows_that_end_with_this_hour() -> None:
    chosen = plan(24 * _HOUR, _HOUR, NOW)
    rows = fold(chosen, {})
    assert chosen.tier is HOUR
    assert len(rows) == 24
    assert rows[-1].start <= NOW < rows[-1].start + _HOUR
    assert all(row.start % _HOUR == 0 for row in rows)


@pytest.mark.parametrize(
    ("step", "tier"),
    [
        (_MINUTE, MINUTE),
        (5 * _MINUTE, MINUTE),
        (90 * _MINUTE, MINUTE),
        (_HOUR, HOUR),
        (6 * _HOUR, HOUR),
        (_DAY, DAY),
        (7 * _DAY, DAY),
    ],
)
def test_the_coarsest_counts_that_divide_the_step_are_read(step: int, tier: object) -> None:
    assert plan(step, step, NOW).tier is tier


def test_rows_add_up_the_counts_of_their_step() -> None:
    chosen = plan(600, 300, NOW)
    found = dict.fromkeys(range(chosen.first, chosen.last + 1), (1, 0, 10, 100, 2))
    rows = fold(chosen, found)
    assert rows == [
        Row(chosen.first * 60, 5, 0, 50, 500, 10),
        Row(chosen.first * 60 + 300, 5, 0, 50, 500, 10),
    ]


@given(
    step=st.sampled_from([60, 120, 300, 3600, 7200, 86400]),
    window=st.integers(1, 400 * 86400),
    now=st.floats(1_600_000_000, 1_900_000_000),
)
def test_rows_follow_each_other_and_hold_the_window_up_to_a_step(
    step: int, window: int, now: float
) -> None:
    try:
        chosen = plan(window, step, now)
    except InvalidRequest:
        tier = next(tier for tier in reversed(TIERS) if step % tier.seconds == 0)
        assert window < step or window > tier.kept or window / step > MAX_ROWS
        return
    rows = fold(chosen, {})
    starts = [row.start for row in rows]
    assert starts == list(range(starts[0], starts[-1] + 1, step))
    assert starts[-1] <= now < starts[-1] + step
    assert now - window - step <= starts[0] <= now - window + step
    assert len(rows) <= MAX_ROWS


@pytest.mark.parametrize(
    ("window", "step", "says"),
    [
        (3600, 0, "step"),
        (3600, -60, "step"),
        (3600, 90, "step"),
        (60, 3600, "shorter than the step"),
        (3 * _DAY, 60, "kept for 2 days"),
        (61 * _DAY, _HOUR, "kept for 60 days"),
        (401 * _DAY, _DAY, "kept for 400 days"),
        (2 * _DAY, 60, "2880 rows, at most 1500"),
    ],
)
def test_what_is_not_kept_is_refused_by_name(window: int, step: int, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        plan(window, step, NOW)


def test_a_row_shows_its_start_as_a_time_and_calls_bytes_bytes() -> None:
    shown = Row(1_700_000_000 // 60 * 60, requests=1, size=9).public()
    assert to_builtins(shown) == {
        "start": "2023-11-14T22:13:00.000000Z",
        "requests": 1,
        "streams": 0,
        "events": 0,
        "bytes": 9,
        "denials": 0,
    }
