"""Conversion of events to and from rows of PostgreSQL."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import count, repeat
from typing import Any

from gateway.adapters.postgres.database import original, storable
from gateway.adapters.sql_conditions import NeedleSql
from gateway.clock import format_rfc3339
from gateway.cursor import JSON_PREFIX
from gateway.event import Draft, Event
from gateway.log.identity import KeyedValues, near

ARRIVING = (
    "batch", "arrived_at", "severity", "has_time", "id", "tenant", "category", "action",
    "outcome", "actor", "resources", "tail", "row_id", "near", "key", "content",
)  # fmt: skip

# Columns for the JSON of an event alone, and for all of it.
JSON_COLUMNS = "has_time, tail"
EVENT_COLUMNS = "has_time, tail, tenant, category, action, outcome, severity, actor, resources"

# The events of a range in either order, and the floor at the same moment. Bound by: after, until,
# rows, bytes, and the condition's values. The first row may exceed the bytes.
_PAGE = """
SELECT *, (SELECT floor FROM step ORDER BY number DESC LIMIT 1) AS floor
  FROM (
    SELECT *, sum(octet_length(tail)) OVER ({order} ROWS UNBOUNDED PRECEDING) AS upto
      FROM (
        SELECT "offset", recorded_at, it.*
          FROM sequenced CROSS JOIN LATERAL (
            SELECT {columns} FROM event
             WHERE event.xid = sequenced.xid AND event.seq = sequenced.seq{condition}
          ) AS it
         WHERE "offset" > $1 AND "offset" <= $2 {order} LIMIT $3
      ) AS page
  ) AS counted
 WHERE upto - octet_length(tail) < $4 {order}
"""
_PAGE_VALUES = 4
# `escape` leaves ASCII as it is, whatever the encoding of the database; "C" folds ASCII alone. The
# times of an event are added when it is read.
NEEDLES = NeedleSql(
    "strpos(lower(encode(tail, 'escape') COLLATE \"C\"), ?) > 0",
    "position('\\x5c'::bytea IN tail) > 0",
    str,
    re.compile(r"[^0-9tz:.+-]").search,
)
# Events converted or encoded at once: some milliseconds.
PART = 1_000
# Rows of a followed table that are mapped at once, and their characters.
_MAPPED_ROWS = 100
_MAPPED_CHARACTERS = 128 * 1024


def page_sql(columns: str, condition: str, *, newest_first: bool = False) -> str:
    """Query of a page; `condition` has `?` for its values."""
    places = count(_PAGE_VALUES + 1)
    numbered = re.sub(r"\?", lambda _: f"${next(places)}", condition)
    order = 'ORDER BY "offset" DESC' if newest_first else 'ORDER BY "offset"'
    return _PAGE.format(columns=columns, condition=numbered, order=order)


def rows_of(
    drafts: Sequence[Draft], values: KeyedValues, batch: int, now: int
) -> list[tuple[Any, ...]]:
    """Values of the columns `ARRIVING` of each draft."""
    return list(_rows(drafts, values, repeat(batch), now, repeat(None)))


def followed_rows(
    drafts: Sequence[Draft],
    values: KeyedValues,
    batches: Sequence[int],
    now: int,
    row_ids: Sequence[str],
) -> list[tuple[Any, ...]]:
    """Values of the columns `ARRIVING` of rows of a followed table, each with its batch and id."""
    return list(_rows(drafts, values, batches, now, row_ids))


def _rows(
    drafts: Sequence[Draft],
    values: KeyedValues,
    batches: Iterable[int],
    now: int,
    row_ids: Iterable[str | None],
) -> Iterator[tuple[Any, ...]]:
    keyed = zip(drafts, values.keys(drafts), values.contents(drafts), strict=True)
    for (draft, key, content), batch, row_id in zip(keyed, batches, row_ids, strict=False):
        yield (
            batch, now, draft.severity, draft.has_time, draft.id, draft.tenant, draft.category,
            draft.action, draft.outcome, storable(draft.actor), draft.resources, draft.tail,
            row_id, near(draft.id), key, content,
        )  # fmt: skip


def parts_of(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Rows of a followed table in parts whose mapping takes about a millisecond, unless one row
    takes longer."""
    begin = size = 0
    for end, row in enumerate(rows):
        if end - begin == _MAPPED_ROWS or size > _MAPPED_CHARACTERS:
            yield rows[begin:end]
            begin, size = end, 0
        size += len(row["row"] or "")
    yield rows[begin:]


async def in_parts(drafts: Sequence[Draft]) -> AsyncIterator[Sequence[Draft]]:
    """Drafts in parts of `PART`; the event loop gets a turn before each further part."""
    for begin in range(0, len(drafts), PART):
        if begin:
            await asyncio.sleep(0)
        yield drafts[begin : begin + PART]


async def one_by_one(rows: Sequence[tuple[Any, ...]]) -> AsyncIterator[tuple[Any, ...]]:
    """Rows one by one, with turns of the event loop: encoding thousands of them takes long."""
    for number, row in enumerate(rows):
        if number and number % PART == 0:
            await asyncio.sleep(0)
        yield row


def events_of(rows: Sequence[Any], head: bytes) -> list[Event]:
    """Events of rows with `EVENT_COLUMNS`; `head` is the beginning of their JSON."""
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
    """Native JSON of rows with `JSON_COLUMNS`; `head` is the beginning of their JSON."""
    return [b'%b%020d",%b%b' % (head, row[0], _stamped(row[1], row[2]), row[3]) for row in rows]


@lru_cache(maxsize=256)
def _stamped(recorded_at: int, has_time: bool) -> bytes:
    """JSON members that an event gets with its offset."""
    return Draft("", "", "", "", "", 1, "", "", has_time, b"").stored(
        format_rfc3339(recorded_at).encode()
    )


def bound_values(values: Sequence[str | int]) -> Iterator[str | int]:
    """Values of a condition in the form that compares with stored ones."""
    for value in values:
        yield storable(value) if isinstance(value, str) else value
