"""Deliveries of the last minute, and when they are slow."""

from __future__ import annotations

import pytest

from gateway.histogram import SECONDS, Histogram, quantile
from gateway.streaming.health.delivery_window import DeliveryWindow


class Looks:
    """A window that is looked at once a second."""

    def __init__(self) -> None:
        self.window = DeliveryWindow()
        self.now = 0.0
        self._all = Histogram()
        self.pass_by(1)

    def pass_by(self, seconds: int, *delivered: float) -> None:
        """In each of these seconds events were delivered in these times."""
        for _ in range(seconds):
            for took in delivered:
                self._all.observe(took)
            self.now += 1
            self.window.look(list(self._all.cells), self.now)

    @property
    def slow_for(self) -> float:
        return self.window.slow_for(self.now)


def test_deliveries_are_slow_when_the_slowest_hundredth_was_over_a_second_for_a_minute() -> None:
    looks = Looks()
    looks.pass_by(60, 0.01, 2.0)
    assert looks.slow_for == 0
    looks.pass_by(1, 0.01, 2.0)
    assert looks.slow_for == 60
    looks.pass_by(10, 0.01, 2.0)
    assert looks.slow_for == 70
    # The last late one is half a minute ago.
    looks.pass_by(30, 0.01)
    assert looks.slow_for == 0


def test_one_late_event_alone_is_not_slow_but_one_now_and_then_is() -> None:
    looks = Looks()
    looks.pass_by(1, 5.0)
    looks.pass_by(100)
    assert looks.slow_for == 0
    for _ in range(5):
        looks.pass_by(1, 5.0)
        looks.pass_by(19)
    assert looks.slow_for >= 60


def test_one_late_event_of_very_many_is_not_slow() -> None:
    looks = Looks()
    for _ in range(120):
        looks.pass_by(1, *[0.01] * 200, 5.0)
    assert looks.slow_for == 0


def test_the_minute_has_what_was_delivered_in_it() -> None:
    looks = Looks()
    assert sum(looks.window.minute) == 0
    looks.pass_by(30, 0.01)
    assert sum(looks.window.minute[:-1]) == 30
    looks.pass_by(100, 0.02)
    assert sum(looks.window.minute[:-1]) == 60
    assert looks.window.minute[-1] == pytest.approx(1.2)


def test_a_quantile_lies_within_its_cell() -> None:
    counted = Histogram()
    assert quantile(SECONDS, counted.cells, 0.99) is None
    counted.observe(0.02, 100)
    assert quantile(SECONDS, counted.cells, 0.5) == pytest.approx(0.0175)
    counted.observe(1000.0, 100)
    assert quantile(SECONDS, counted.cells, 0.99) == 60.0
    counted = Histogram()
    counted.observe(0.0005)
    assert quantile(SECONDS, counted.cells, 0.99) == pytest.approx(0.00099)
