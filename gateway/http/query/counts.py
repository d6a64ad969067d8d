"""Parameters of counts."""

from __future__ import annotations

from difflib import get_close_matches

import msgspec

from gateway.errors import InvalidRequest
from gateway.http.query.query import SELECTORS, Query, parse_range
from gateway.http.query.values import Pairs, Position, collect, number, one, position_of
from gateway.log.counts import COUNTED_MEMBERS
from gateway.looking.buckets import AUTO, STEPS

COUNTS = (
    *SELECTORS, "since", "until", "before", "min_severity", "filter", "text", "text_in", "step",
    "by", "top",
)  # fmt: skip
DEFAULT_SINCE = "24h"
MOST_BY = 3
DEFAULT_TOP, MOST_TOP = 20, 100


class CountsQuery(msgspec.Struct, frozen=True):
    """What is counted, from `since` on (microseconds since 1970), by what, and how many values of a
    member are told."""

    query: Query
    since: int
    step: str
    by: tuple[str, ...]
    top: int


def parse_counts(pairs: Pairs, now: float) -> CountsQuery:
    values = collect(pairs)
    values.setdefault("since", [DEFAULT_SINCE])
    position: Position = position_of(values, now, default="start")
    assert position.since is not None
    step = one(values, "step")
    if step not in (None, AUTO, *STEPS):
        raise InvalidRequest(f"step: one of {AUTO}, {', '.join(STEPS)}", parameter="step")
    return CountsQuery(
        parse_range(values, position, now),
        position.since,
        step or AUTO,
        _by(values.get("by", [])),
        number(values, "top", 1, MOST_TOP) or DEFAULT_TOP,
    )


def _by(given: list[str]) -> tuple[str, ...]:
    """Members that are counted by: repeated, or joined by commas."""
    members = tuple(dict.fromkeys(name for text in given for name in text.split(",")))
    for name in members:
        if name not in COUNTED_MEMBERS:
            near = get_close_matches(name, COUNTED_MEMBERS, 1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise InvalidRequest(
                f"by: {name[:64]!r} is none of {', '.join(COUNTED_MEMBERS)}{hint}", parameter="by"
            )
    if len(members) > MOST_BY:
        raise InvalidRequest(f"by: at most {MOST_BY} members, not {len(members)}", parameter="by")
    return members
