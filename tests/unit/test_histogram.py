"""Histograms count each value under the first bound that it does not exceed."""

from __future__ import annotations

from gateway.histogram import Histogram, width


def test_values_are_counted_up_to_each_bound_and_summed() -> None:
    histogram = Histogram((0.5, 1.0))
    for value in (0.5, 0.75, 1.0, 60.0):
        histogram.observe(value)
    histogram.observe(0.25, times=3)
    assert histogram.cells == [4, 2, 1, 63.0]
    assert len(histogram.cells) == width(histogram.bounds)
