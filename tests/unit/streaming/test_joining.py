"""Events wait for one another only while the event loop is busy, or several have just come."""

from __future__ import annotations

import pytest

from gateway.streaming.live.flusher import JoiningWindow

LONGEST = 0.025


def window_under(working: float, writing: float = 1.0, count: int = 1) -> float:
    window = JoiningWindow(LONGEST)
    now = seconds = 0.0
    for _ in range(100):
        now += 0.01
        seconds = window.seconds(now, now * working, now * writing, count)
    return seconds


@pytest.mark.parametrize(
    ("working", "part"), [(0.0, 0.0), (0.75, 0.0), (0.85, 0.5), (0.95, 1.0), (1.0, 1.0), (1.1, 1.0)]
)
def test_the_window_follows_the_load(working: float, part: float) -> None:
    assert window_under(working) == pytest.approx(part * LONGEST)


@pytest.mark.parametrize(("writing", "part"), [(0.0, 0.0), (0.2, 0.0), (0.35, 0.5), (0.5, 1.0)])
def test_nothing_waits_where_something_else_keeps_the_loop_busy(
    writing: float, part: float
) -> None:
    assert window_under(1.0, writing) == pytest.approx(part * LONGEST)


def test_several_events_at_once_are_followed_by_more_whatever_the_load() -> None:
    assert window_under(0.0, count=2) == pytest.approx(0.4 * LONGEST)
    assert window_under(1.0, count=2) == pytest.approx(LONGEST)


def test_the_first_event_after_a_quiet_time_waits_for_nothing() -> None:
    window = JoiningWindow(LONGEST)
    window.seconds(1.0, 1.0, 1.0, 1)
    assert window.seconds(1.1, 1.1, 1.1, 1) == pytest.approx(LONGEST)
    assert window.seconds(2.1, 1.2, 1.2, 1) == 0.0


def test_nothing_ever_waits_where_the_setting_says_so() -> None:
    window = JoiningWindow(0.0)
    assert window.seconds(1.0, 1.0, 1.0, 9) == 0.0
