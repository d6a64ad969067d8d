"""Numbers of events by time and by members, as logs count them block by block. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from gateway.event import Event

# Offsets of a block. What lies in a whole one below the head never changes, but by retention.
BLOCK_OFFSETS = 4096
COUNTED_MEMBERS = ("tenant", "category", "action", "outcome", "severity", "actor")


class Grouping(msgspec.Struct, frozen=True):
    """What events are counted by: when they were recorded, in buckets of so many microseconds since
    1970, and the values of some of `COUNTED_MEMBERS`."""

    micros: int
    members: tuple[str, ...] = ()


class BucketCount(msgspec.Struct, array_like=True):
    """Events of one bucket. For each member of the grouping: how many have each value, as text, and
    of how many it is hidden."""

    count: int
    values: list[dict[str, int]]
    hidden: list[int]


# By the number of the bucket since 1970; a bucket without events is missing.
Counts = dict[int, BucketCount]


def counts_of_rows(rows: Iterable[tuple[int, int, str, int]], grouping: Grouping) -> Counts:
    """Counts from rows of the place of a member, a bucket, a value and a number of events; without
    members there is one row for each bucket, and the place and the value mean nothing."""
    width = len(grouping.members)
    counts: Counts = {}
    for place, bucket, value, number in rows:
        found = counts.get(bucket)
        if found is None:
            found = counts[bucket] = BucketCount(0, [{} for _ in range(width)], [0] * width)
        if place == 0:
            found.count += number
        if width:
            found.values[place][value] = number
    return counts


class EventCounter:
    """Counts of single events."""

    def __init__(self, grouping: Grouping) -> None:
        self.counts: Counts = {}
        self._micros = grouping.micros
        self._members = grouping.members
        self._width = len(grouping.members)

    def add(self, event: Event, hidden: tuple[int, ...] = ()) -> None:
        """Count an event, of which the members at these places are hidden."""
        bucket = event.recorded_at() // self._micros
        found = self.counts.get(bucket)
        if found is None:
            width = self._width
            found = self.counts[bucket] = BucketCount(0, [{} for _ in range(width)], [0] * width)
        found.count += 1
        for place, member in enumerate(self._members):
            if place in hidden:
                found.hidden[place] += 1
            else:
                values = found.values[place]
                value = str(getattr(event, member))
                values[value] = values.get(value, 0) + 1


class OffsetBlock(NamedTuple):
    """Offsets with `after < offset <= until`, all within one block. `number` is that of the block
    if these are all of it, else None."""

    after: int
    until: int
    number: int | None


def newest_block(after: int, until: int, most: int = BLOCK_OFFSETS) -> OffsetBlock:
    """The newest part of a range that lies in one block and has at most so many offsets."""
    number = (until - 1) // BLOCK_OFFSETS
    begin, end = number * BLOCK_OFFSETS, (number + 1) * BLOCK_OFFSETS
    least = max(after, begin, until - max(1, most))
    return OffsetBlock(least, until, number if (least, until) == (begin, end) else None)
