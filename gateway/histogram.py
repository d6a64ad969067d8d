"""Histograms: numbers of values up to each bound, as in Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from operator import add

# Bounds in seconds, for durations that should be milliseconds.
SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
)  # fmt: skip


class Histogram:
    """Histogram since the start of one process.

    `cells`: a count for each bound, one for values beyond the last, and the sum of all values.
    """

    __slots__ = ("bounds", "cells")

    def __init__(self, bounds: Sequence[float] = SECONDS, cells: list[float] | None = None) -> None:
        """`cells`: those to count on with, which are changed in place."""
        self.bounds = bounds
        self.cells: list[float] = [0] * width(bounds) if cells is None else cells

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value that occurred `times` times."""
        self.cells[bisect_left(self.bounds, value)] += times
        self.cells[-1] += value * times

    def add(self, other: Histogram) -> None:
        """Count what another one with the same bounds has."""
        self.cells[:] = map(add, self.cells, other.cells)


def width(bounds: Sequence[float]) -> int:
    """Number of cells of a histogram with these bounds."""
    return len(bounds) + 2


def quantile(bounds: Sequence[float], cells: Sequence[float], part: float) -> float | None:
    """Value up to which that part of all values are, within its cell as if they were spread evenly,
    as Prometheus has it; the last bound for values beyond. None without values."""
    counts = cells[:-1]
    rank = part * sum(counts)
    if not rank:
        return None
    below = 0.0
    for place, count in enumerate(counts[: len(bounds)]):
        if count and below + count >= rank:
            low = bounds[place - 1] if place else 0.0
            return low + (bounds[place] - low) * (rank - below) / count
        below += count
    return bounds[-1]
