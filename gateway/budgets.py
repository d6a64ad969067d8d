"""Budgets of work that one party may request of the event loop.

Filters are counted in steps of about 0.1 us of processor time (`gateway.filters.cel.values`).
"""

from __future__ import annotations

import msgspec

STEPS_PER_SECOND = 10_000_000


class WorkBudget(msgspec.Struct, frozen=True):
    """Bounds on work that is done in slices on the event loop."""

    # A slice ends at the first event after this time; one evaluation of a filter may exceed it.
    slice_seconds: float = 0.002
    # Time of a request without waiting for a turn: most need no more.
    free_seconds: float = 0.0005
    # Pause between two slices while other work waits or events are on their way to live streams; at
    # least so many times the length of the slice.
    pause_seconds: float = 0.006
    pauses_per_slice: float = 3.0


class FilterBudget(msgspec.Struct, frozen=True):
    """Steps that filters may take beyond the free ones of every event."""

    # Free steps per event: ordinary filters stay below, and are never charged.
    free_steps: int = 200
    # Steps of one evaluation on the event loop for a page or replay; longer ones run elsewhere.
    loop_steps: int = 5_000
    # Steps, beyond the free ones, of a live group per page of events; costlier streams leave it.
    live_steps: int = 5_000
    # Steps per request, and per part of a replay; both end early, and continue from there.
    request_steps: int = 5_000_000
    chunk_steps: int = 500_000
    # Seconds of its share that a key may save up.
    burst_seconds: float = 20.0
    # Time of a costly stream outside the live group, at first and at most.
    least_away_seconds: float = 60.0
    most_away_seconds: float = 3600.0
    # Time between two notices to one stream.
    notice_seconds: float = 60.0


WORK = WorkBudget()
FILTERS = FilterBudget()
