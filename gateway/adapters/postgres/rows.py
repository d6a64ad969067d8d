"""Events as rows of PostgreSQL, on their way in and out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import lru_cache
from itertools import count
from typing import Any

from gateway.adapters.postgres.database import original, storable
from gateway.clock import format_rfc3339
from gateway.cursor import JSON_PREFIX
from gateway.event import Draft, Event
from gateway.log.identity import KeyedValues, near

ARRIVING = (
    "batch", "arrived_at", "severity", "has_time", "id", "tenant", "category", "action",
    "outcome", "actor", "resources", "tail", "row_id", "near", "key", "content",
)  # fmt: skip

# What is read of an event, for its JSON alone and for all of it.
JSON_COLUMNS = "has_time, tail"
EVENT_COLUMNS = "has_time, tail, tenant, category, action, outcome, severity, actor, resources"

# The events of a range; with the floor, as of the same moment. Bound by: after, until, rows,
# bytes, and the condition's values. At most so many rows, and bytes but for the first row.
_PAGE = """
SELECT *, (SELECT floor FROM step ORDER BY number DESC LIMIT 1) AS floor
  FROM (
    SELECT *, sum(octet_length(tail)) OVER (ORDER BY "offset" ROWS UNBOUNDED PRECEDING) AS upto
      FROM (
        SELECT "offset", recorded_at, it.*
          FROM sequenced CROSS JOIN LATERAL (
            SELECT {columns} FROM event
             WHERE event.xid = sequenced.xid AND event.seq = sequenced.seq{condition}
          ) AS it
         WHERE "offset" > $1 AND "offset" <= $2 ORDER BY "offset" LIMIT $3
      ) AS page
  ) AS counted
 WHERE upto - octet_length(tail) < $4 ORDER BY "offset"
"""
_PAGE_VALUES = 4
# So many events are made into rows, or encoded, at once: some milliseconds.
PART = 1_000


def page_sql(columns: str, condition: str) -> str:
    """The statement for a page; `condition` has `?` for its values."""
    places = count(_PAGE_VALUES + 1)
    numbered = re.sub(r"\?", lambda _: f"${next(places)}", condition)
    return _PAGE.format(columns=columns, condition=numbered)


def row_of(
    draft: Draft, values: KeyedValues, batch: int, now: int, row_id: str | None = None
) -> tuple[Any, ...]:
    """The columns `ARRIVING`."""
    return rows_of([draft], values, batch, now, row_id)[0]


def rows_of(
    drafts: Sequence[Draft], values: KeyedValues, batch: int, now: int, row_id: str | None = None
) -> list[tuple[Any, ...]]:
    """The columns `ARRIVING` of each."""
    keyed = zip(drafts, values.keys(drafts), values.contents(drafts), strict=True)
    return [
        (
            batch, now, draft.severity, draft.has_time, draft.id, draft.tenant, draft.category,
            draft.action, draft.outcome, storable(draft.actor), draft.resources, draft.tail,
            row_id, near(draft.id), key, content,
        )
        for draft, key, content in keyed
    ]  # fmt: skip


async def in_parts(drafts: Sequence[Draft]) -> AsyncIterator[Sequence[Draft]]:
    """Some at a time: others have their turn before the next ones."""
    for begin in range(0, len(drafts), PART):
        if begin:
            await asyncio.sleep(0)
        yield drafts[begin : begin + PART]


async def one_by_one(rows: Sequence[tuple[Any, ...]]) -> AsyncIterator[tuple[Any, ...]]:
    """The same for rows that are copied: to encode thousands of them takes a while."""
    for number, row in enumerate(rows):
        if number and number % PART == 0:
            await asyncio.sleep(0)
        yield row


def events_of(rows: Sequence[Any], head: bytes) -> list[Event]:
    """The events of rows with `EVENT_COLUMNS`; `head` is what their JSON begins with."""
    events = []
    for row in rows:
        offset, recorded_at, has_time, tail = row[:4]
        tenant, category, action, outcome, severity, actor, resources = row[4:11]
        start = b"%b%020d" % (head, offset)
        json = b'%b",%b%b' % (start, _stamped(recorded_at, has_time), tail)
        cursor = start[len(JSON_PREFIX) :]
        events.append(
            Event(
                offset, tenant, category, action, outcome, severity, original(actor), resources,
                cursor, json,
            )
        )  # fmt: skip
    return events


def lines_of(rows: Sequence[Any], head: bytes) -> list[bytes]:
    """The same as native JSON alone, of rows with `JSON_COLUMNS`."""
    return [b'%b%020d",%b%b' % (head, row[0], _stamped(row[1], row[2]), row[3]) for row in rows]


@lru_cache(maxsize=256)
def _stamped(recorded_at: int, has_time: bool) -> bytes:
    """The members that an event gets with its offset."""
    return Draft("", "", "", "", "", 1, "", "", has_time, b"").stored(
        format_rfc3339(recorded_at).encode()
    )


def bound_values(values: Sequence[str | int]) -> Iterator[str | int]:
    """The values of a condition as they compare with stored ones."""
    for value in values:
        yield storable(value) if isinstance(value, str) else value
