"""Tally of counts, newest first, which can end at the edge of any bucket. Pure."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from heapq import nsmallest

import msgspec

from gateway.log.counts import BucketCount, Counts

# Values of one member that are told apart; the next one ends the range.
MOST_VALUES = 50_000
# Values that one step deals with: some tenths of a millisecond.
_AT_ONCE = 1000
Values = dict[str, int]


class Facet(msgspec.Struct):
    """Values of one member: the `top` ones with their counts, how many there are, and how many
    events have others, or a value that masks hide."""

    top: list[tuple[str, int]]
    distinct: int
    others: int
    hidden: int


class Tally:
    """Counts by bucket and by values of members, added block by block from the newest backwards.

    Its longer methods are generators of small steps, as there may be many values."""

    def __init__(self, members: tuple[str, ...], most_values: int = MOST_VALUES) -> None:
        self.total = 0
        # By bucket: its events, and how many have each outcome if that is counted.
        self.buckets: dict[int, tuple[int, Values]] = {}
        self._members = members
        self._most = most_values
        self._values: list[Values] = [{} for _ in members]
        self._hidden = [0] * len(members)
        # What was added of the oldest bucket, so that it can be taken out.
        self._oldest: tuple[int, list[Values], list[int]] | None = None

    @property
    def hidden(self) -> dict[str, int]:
        """By member: how many events hide it."""
        return dict(zip(self._members, self._hidden, strict=True))

    def add(self, counts: Counts) -> Generator[None, None, int | None]:
        """Add counts of older events. Returns the number of a bucket with whose events a member
        would have too many values: of that bucket nothing was added, nor of older ones."""
        for bucket in sorted(counts, reverse=True):
            one = counts[bucket]
            if any(map(self._overflows, self._values, one.values)):
                return bucket
            self._add_numbers(bucket, one)
            assert self._oldest is not None
            for whole, oldest, values in zip(
                self._values, self._oldest[1], one.values, strict=True
            ):
                for part in _parts(values):
                    for value, number in part:
                        whole[value] = whole.get(value, 0) + number
                        oldest[value] = oldest.get(value, 0) + number
                    yield
        return None

    def take_out(self, bucket: int) -> Generator[None, None, None]:
        """Take out the events of a bucket, none of which are older, if there are any."""
        if self._oldest is None or self._oldest[0] != bucket:
            return
        _, oldest, hidden = self._oldest
        self._oldest = None
        self.total -= self.buckets.pop(bucket)[0]
        for place, number in enumerate(hidden):
            self._hidden[place] -= number
        for whole, values in zip(self._values, oldest, strict=True):
            for part in _parts(values):
                for value, number in part:
                    whole[value] -= number
                    if not whole[value]:
                        del whole[value]
                yield

    def facets(self, top: int) -> Generator[None, None, dict[str, Facet]]:
        """Facets by member, with so many values each, the most frequent first."""
        found: dict[str, Facet] = {}
        for member, values, hidden in zip(self._members, self._values, self._hidden, strict=True):
            best: list[tuple[str, int]] = []
            for part in _parts(values):
                best = nsmallest(top, best + part, key=lambda one: (-one[1], one[0]))
                yield
            others = self.total - hidden - sum(number for _, number in best)
            found[member] = Facet(best, len(values), others, hidden)
        return found

    def _add_numbers(self, bucket: int, one: BucketCount) -> None:
        before, outcomes = self.buckets.get(bucket, (0, {}))
        for member, values in zip(self._members, one.values, strict=True):
            if member == "outcome":
                outcomes = {
                    name: outcomes.get(name, 0) + values.get(name, 0)
                    for name in sorted({*outcomes, *values})
                }
        self.buckets[bucket] = (before + one.count, outcomes)
        self.total += one.count
        if self._oldest is None or self._oldest[0] != bucket:
            self._oldest = (bucket, [{} for _ in one.values], [0] * len(one.hidden))
        for place, number in enumerate(one.hidden):
            self._oldest[2][place] += number
            self._hidden[place] += number

    def _overflows(self, known: Values, values: Values) -> bool:
        if len(known) + len(values) <= self._most:
            return False
        return len(known) + sum(value not in known for value in values) > self._most


def _parts(values: Values) -> Iterator[list[tuple[str, int]]]:
    items = list(values.items())
    for first in range(0, len(items), _AT_ONCE):
        yield items[first : first + _AT_ONCE]
