"""Lookup of events in PostgreSQL by their ids and keyed values."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from gateway.adapters.postgres.rows import EVENT_COLUMNS
from gateway.event import Draft
from gateway.log.identity import KeyedValues, near
from gateway.log.ports import Appended

NOTHING = Appended(0, 0, 0, 0)

# Events with an id, with the columns of a page. Bound by: `near`, the least and the greatest keyed
# value, the id, the tenant or NULL, after, head, rows.
FIND = f"""
SELECT place."offset", sequenced.recorded_at, it.*
  FROM (SELECT "offset" FROM sequenced WHERE near = $1 AND key BETWEEN $2 AND $3
         UNION SELECT "offset" FROM renamed WHERE id = $4
         UNION SELECT "offset" FROM sequenced WHERE id = $4) AS place
  JOIN sequenced ON sequenced."offset" = place."offset"
 CROSS JOIN LATERAL (
    SELECT {EVENT_COLUMNS} FROM event
     WHERE event.xid = sequenced.xid AND event.seq = sequenced.seq AND event.id = $4
  ) AS it
 WHERE ($5::text IS NULL OR it.tenant = $5) AND place."offset" > $6 AND place."offset" <= $7
 ORDER BY place."offset" LIMIT $8
"""

# Offsets of events by keyed values or, for events from before these existed, by ids and tenants;
# with the batch that stored them, and whether their content is certainly the same. Numbered from
# the last bound value on.
PLACES = """
WITH asked AS (
    SELECT near, key, content, id, tenant, $6::bigint + nth AS number
      FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::text[], $5::text[])
             WITH ORDINALITY AS one (near, key, content, id, tenant, nth)
), found AS (
    SELECT number, known.* FROM asked CROSS JOIN LATERAL (
        SELECT "offset", xid, seq, true AS certain FROM sequenced
         WHERE sequenced.near = asked.near AND sequenced.key = asked.key
           AND sequenced.content = asked.content
        UNION ALL
        SELECT "offset", xid, seq, NULL FROM sequenced
         WHERE sequenced.near = asked.near AND sequenced.key = asked.key
           AND sequenced.content IS NULL
        UNION ALL
        SELECT "offset", xid, seq, NULL FROM sequenced
         WHERE sequenced.near = asked.near AND sequenced.key = asked.key
           AND asked.content IS NULL AND sequenced.content IS NOT NULL
        UNION ALL
        SELECT sequenced."offset", xid, seq, sequenced.content = asked.content
          FROM renamed JOIN sequenced ON sequenced."offset" = renamed."offset"
         WHERE renamed.id = asked.id AND renamed.tenant = asked.tenant
           AND coalesce(sequenced.content = asked.content, true)
        UNION ALL
        SELECT "offset", xid, seq, false FROM sequenced
         WHERE sequenced.id = asked.id AND sequenced.tenant = asked.tenant
    ) AS known
)
SELECT DISTINCT ON (number) number, "offset", coalesce(certain, false) AS certain,
       there.batch, there.id
  FROM found
 CROSS JOIN LATERAL (
    SELECT batch, id FROM event WHERE event.xid = found.xid AND event.seq = found.seq
  ) AS there
 ORDER BY number, certain DESC NULLS LAST, "offset"
"""


def asked_places(drafts: Sequence[Draft], values: KeyedValues) -> tuple[list[Any], ...]:
    """Parameters of `PLACES`."""
    return (
        [near(draft.id) for draft in drafts],
        values.keys(drafts),
        values.contents(drafts),
        [draft.id for draft in drafts],
        [draft.tenant for draft in drafts],
    )


def placed_whole(
    batches: Sequence[Sequence[Draft]], first: int, conflicts: Sequence[int]
) -> list[Appended]:
    """Results of batches that one step placed from offset `first` on; `conflicts` are the offsets
    of events stored under another id."""
    conflicts = sorted(conflicts)
    results = []
    for batch in batches:
        end = first + len(batch)
        number = bisect_left(conflicts, end) - bisect_left(conflicts, first)
        results.append(Appended(len(batch), 0, first, end - 1, number) if batch else NOTHING)
        first = end
    return results


def found_places(
    batches: Sequence[Sequence[Draft]],
    number: int,
    rows: Sequence[Any],
    *,
    floor: int,
    head: int,
) -> list[Appended]:
    """Results of batches by the rows of `PLACES`; `number` is the number of their batch."""
    places = {row["number"]: row for row in rows}
    results = []
    seen: set[int] = set()
    nth = 0
    for batch in batches:
        accepted = conflicts = 0
        offsets = []
        for draft in batch:
            nth += 1
            row = places.get(nth)
            if row is None:
                # Retention may have deleted what was placed a moment ago.
                accepted += 1
                offsets.append(floor)
                continue
            offset, mine = row["offset"], row["batch"] == number
            if mine and offset not in seen:
                accepted += 1
                conflicts += row["id"] != draft.id
                seen.add(offset)
            if mine or row["certain"]:
                offsets.append(offset)
        if batch:
            duplicates = len(batch) - accepted
            results.append(Appended.at(accepted, duplicates, offsets, head, conflicts))
        else:
            results.append(NOTHING)
    return results
