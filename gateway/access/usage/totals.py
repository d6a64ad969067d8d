"""Usage summed over keys, by key or by owner. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Struct

from gateway.access.keys.key import Key
from gateway.access.usage.windows import ZERO, Counts, UsageCounts
from gateway.clock import Moment
from gateway.json_members import about

BY = ("key", "owner")
COUNTERS_SHOWN = ("requests", "streams", "events", "bytes", "denials")


class UsageOf(Struct, kw_only=True, omit_defaults=True):
    """Usage of one key, or of all keys of one owner."""

    owner: str
    key: Annotated[str, about("The id of the key, with `by=key`.")] = ""
    name: str = ""
    keys: Annotated[int, about("With `by=owner`: how many keys have any use.")] = 0
    now: UsageCounts
    week_before: Annotated[UsageCounts | None, about("`null`: not kept.")]


class UsageOfAll(Struct):
    """Usage over all keys."""

    since: Moment
    until: Moment
    by: Annotated[str, about(enum=list(BY))]
    rows: Annotated[list[UsageOf], about("Those with most first.")]
    others: Annotated[int, about("Rows with any use beyond `limit`.")]
    total: Annotated[UsageCounts, about("Of all keys.")]
    total_week_before: Annotated[UsageCounts | None, about("`null`: not kept.")]


class UsageQuery(Struct, frozen=True):
    """Window in seconds, kind of rows, place of the counter that orders them, and the most of
    them."""

    window: int
    by: str
    counter: int
    limit: int


class UsageSums:
    """Rows by key or owner, and their totals."""

    def __init__(self, query: UsageQuery) -> None:
        self.rows: dict[str, UsageOf] = {}
        self.total = UsageCounts()
        self.total_before: UsageCounts | None = UsageCounts()
        self._query = query

    def add(self, key: Key, used: Counts | None, before: Mapping[str, Counts] | None) -> bool:
        """Count a key; whether that made a row. `before` are the counts of keys a week before,
        None if they are not kept."""
        if before is None:
            self.total_before = None
        earlier = None if before is None else before.get(key.id)
        if used is None and earlier is None:
            return False
        of_key = self._query.by == "key"
        place = key.id if of_key else key.owner
        row = self.rows.get(place)
        made = row is None
        if row is None:
            row = UsageOf(
                owner=key.owner, now=UsageCounts(),
                week_before=None if before is None else UsageCounts(),
            )  # fmt: skip
            if of_key:
                row.key, row.name = key.id, key.name
            self.rows[place] = row
        if not of_key and used is not None:
            row.keys += 1
        for one_sum in (row.now, self.total):
            _add(one_sum, used or ZERO)
        for one_before in (row.week_before, self.total_before):
            _add(one_before, earlier or ZERO)
        return made

    def place(self, row: UsageOf) -> tuple[int, str, str]:
        """Place of a row: most of the counter first."""
        return -_counts(row.now)[self._query.counter], row.owner, row.key


def _counts(of: UsageCounts) -> Counts:
    return of.requests, of.streams, of.events, of.bytes, of.denials


def _add(to: UsageCounts | None, counts: Counts) -> None:
    if to is not None:
        to.requests += counts[0]
        to.streams += counts[1]
        to.events += counts[2]
        to.bytes += counts[3]
        to.denials += counts[4]
