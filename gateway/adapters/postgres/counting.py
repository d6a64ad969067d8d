"""Counts of events in PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count

from gateway.adapters.postgres.database import Database, original
from gateway.adapters.postgres.rows import bound_values
from gateway.log.counts import Counts, Grouping, counts_of_rows

# What a place has alone needs no look at its event.
_PLACES = """
SELECT 0, recorded_at / $3 AS bucket, '' AS value, count(*)
  FROM sequenced WHERE "offset" > $1 AND "offset" <= $2 GROUP BY bucket
"""
# The events are read once, for all members.
_CHOSEN = """
WITH chosen AS MATERIALIZED (
    SELECT recorded_at / $3 AS bucket, it.*
      FROM sequenced CROSS JOIN LATERAL (
        SELECT {members} FROM event
         WHERE event.xid = sequenced.xid AND event.seq = sequenced.seq{condition}
      ) AS it
     WHERE "offset" > $1 AND "offset" <= $2
)
"""
_BUCKETS = "SELECT 0, bucket, '' AS value, count(*) FROM chosen GROUP BY bucket"
_VALUES = "SELECT {place}, bucket, {member}::text, count(*) FROM chosen GROUP BY bucket, {member}"
_COUNT_VALUES = 3

_LAST_BEFORE_EACH = """
SELECT last_before(micros) FROM unnest($1::bigint[]) WITH ORDINALITY AS of (micros, place)
 ORDER BY place
"""


def count_sql(members: tuple[str, ...], condition: str) -> str:
    """Query of the rows of `counts_of_rows`; `condition` has `?` for its values. Bound by: after,
    until, the microseconds of a bucket, and the condition's values."""
    if not members and not condition:
        return _PLACES
    places = count(_COUNT_VALUES + 1)
    numbered = re.sub(r"\?", lambda _: f"${next(places)}", condition)
    chosen = _CHOSEN.format(members=", ".join(members) or "1 AS one", condition=numbered)
    rows = [_VALUES.format(place=place, member=member) for place, member in enumerate(members)]
    return chosen + (" UNION ALL ".join(rows) or _BUCKETS)


async def count_events(
    database: Database,
    between: tuple[int, int],
    grouping: Grouping,
    condition: str,
    bound: Sequence[str | int],
) -> Counts:
    """Counts of the events behind the first offset up to the second."""
    sql = count_sql(grouping.members, condition)
    async with database.connection("the log cannot be read") as connection:
        rows = await connection.fetch(sql, *between, grouping.micros, *bound_values(bound))
    return counts_of_rows(
        ((place, bucket, original(value), number) for place, bucket, value, number in rows),
        grouping,
    )


async def last_before_each(database: Database, micros: Sequence[int]) -> list[int]:
    """Newest offset recorded before each of these times."""
    async with database.connection("the log cannot be read") as connection:
        rows = await connection.fetch(_LAST_BEFORE_EACH, micros)
    return [row[0] for row in rows]
