"""Bounds on the work that one party may ask of the event loop.

Filters are counted in steps of about 0.1 us of processor time each, as
`gateway.filters.cel.values` charges them.
"""

from __future__ import annotations

import msgspec

STEPS_PER_SECOND = 10_000_000


class WorkBudget(msgspec.Struct, frozen=True):
    """Work on the event loop that is done in slices, between which others have their turn."""

    # A slice ends at the first event after so long; one evaluation of a filter may come on top.
    slice_seconds: float = 0.002
    # What a request may take without waiting for its turn: most need no more.
    free_seconds: float = 0.0005
    # The pause between two slices while there is something else to do, or events are on their way
    # to live streams; and how many times as long as the slice it is at least.
    pause_seconds: float = 0.006
    pauses_per_slice: float = 3.0


class FilterBudget(msgspec.Struct, frozen=True):
    """Steps that filters may take beyond the free ones of every event."""

    # Of each event: ordinary filters stay below it, and are never charged to their keys.
    free_steps: int = 200
    # Of one evaluation by the event loop for a page or a replay; what takes more is for a thread.
    loop_steps: int = 5_000
    # Of a live group and one page of events, beyond the free ones; more, and it leaves.
    live_steps: int = 5_000
    # Of one request, and of one part of a replay; they end early, and go on where they ended.
    request_steps: int = 5_000_000
    chunk_steps: int = 500_000
    # A key may save up so many seconds of its share.
    burst_seconds: float = 20.0
    # How long a stream whose filter is costly stays out of the live group, at first and at most.
    least_away_seconds: float = 60.0
    most_away_seconds: float = 3600.0
    # Between two notices to one stream.
    notice_seconds: float = 60.0


WORK = WorkBudget()
FILTERS = FilterBudget()
