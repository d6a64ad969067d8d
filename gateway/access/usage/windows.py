"""Usage by windows and steps: which counts are kept how long, and rows made of them. Pure.

Counts are kept per minute, hour and day of UTC, each for a while. A query `window=24h&step=1h` is
answered from the coarsest of them that divides its step.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.clock import Moment, format_time
from gateway.errors import InvalidRequest

COUNTERS = ("requests", "streams", "events", "size", "denials")
Counts = tuple[int, ...]
ZERO: Counts = (0,) * len(COUNTERS)
MAX_ROWS = 1500


class Tier(msgspec.Struct, frozen=True):
    """Counts per `seconds`, kept for `kept` seconds."""

    name: str
    unit: str
    seconds: int
    kept: int

    def index(self, now: float) -> int:
        """Number of the minute, hour or day, from 1970 on."""
        return int(now // self.seconds)


MINUTE = Tier("minute", "m", 60, 2 * 86400)
HOUR = Tier("hour", "h", 3600, 60 * 86400)
DAY = Tier("day", "d", 86400, 400 * 86400)
TIERS = (MINUTE, HOUR, DAY)


class Row(msgspec.Struct, frozen=True):
    """Usage from `start` (seconds since 1970) to the start of the next row."""

    start: int
    requests: int = 0
    streams: int = 0
    events: int = 0
    size: int = 0
    denials: int = 0

    def public(self) -> UsageRow:
        start, *counts = msgspec.structs.astuple(self)
        return UsageRow(format_time(start), *counts)


class UsageRow(msgspec.Struct):
    """A row in an answer."""

    start: Moment
    requests: int
    streams: int
    events: int
    bytes: int
    denials: int


class UsageCounts(msgspec.Struct):
    """Counts in an answer."""

    requests: int = 0
    streams: int = 0
    events: int = 0
    bytes: int = 0
    denials: int = 0


class Plan(msgspec.Struct, frozen=True):
    """Plan of a query: read the counts of `tier` from index `first` to `last`, `each` of them for
    one row."""

    tier: Tier
    first: int
    last: int
    each: int


def plan(window: int, step: int, now: float) -> Plan:
    """Plan for the last `window` seconds in steps of `step` seconds.

    Rows begin at multiples of the step; the last one holds `now` and is not over yet. Raises
    `InvalidRequest` for what is not kept.
    """
    tier = next((tier for tier in reversed(TIERS) if step > 0 and step % tier.seconds == 0), None)
    if tier is None:
        raise InvalidRequest("step: whole minutes are counted; use 1m, 1h or 1d", code="bad_window")
    if window < step:
        raise InvalidRequest("window: must not be shorter than the step", code="bad_window")
    if window > tier.kept:
        raise InvalidRequest(
            f"window: counts per {tier.name} are kept for {tier.kept // 86400} days; "
            "ask for a shorter window or a longer step",
            code="bad_window",
        )
    rows = -(-window // step)
    if rows > MAX_ROWS:
        raise InvalidRequest(
            f"window: that is {rows} rows, at most {MAX_ROWS} are given; take a longer step",
            code="bad_window",
        )
    each = step // tier.seconds
    newest = int(now // step)
    return Plan(tier, (newest - rows + 1) * each, (newest + 1) * each - 1, each)


def stretch(window: int, ago: int, now: float) -> tuple[Tier, int, int]:
    """The finest counts that are kept long enough for the last `window` seconds of what ends `ago`
    seconds before now, and their first and last index. Raises `InvalidRequest` if there are none.
    """
    for tier in TIERS:
        if window % tier.seconds == 0 and 0 < window <= tier.kept - ago:
            last = tier.index(now - ago)
            return tier, last - window // tier.seconds + 1, last
    raise InvalidRequest(
        f"window: whole minutes up to {MINUTE.kept // 86400} days, whole hours up to "
        f"{HOUR.kept // 86400} or whole days up to {DAY.kept // 86400}; ask for a shorter window",
        code="bad_window",
    )


def fold(plan: Plan, found: Mapping[int, Counts]) -> list[Row]:
    """Rows of a plan from the counts found by index; missing counts are 0."""
    rows = []
    for first in range(plan.first, plan.last + 1, plan.each):
        sums = list(ZERO)
        for index in range(first, first + plan.each):
            for place, count in enumerate(found.get(index, ZERO)):
                sums[place] += count
        rows.append(Row(first * plan.tier.seconds, *sums))
    return rows
