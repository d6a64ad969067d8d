"""Batches of events in and out of SQLite, and counts of them, many rows to a statement.

While a statement runs in SQLite, Python's lock is free, and so is the event loop; one row at a time
would take and release the lock a thousand times per batch and stall the loop. So some hundred rows
go in as values of one statement, which takes half the time of one JSON array; a page comes out as
one JSON array and one blob.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import apsw
import orjson

from gateway.adapters.sql_conditions import NeedleSql
from gateway.adapters.sqlite.dedup import Dedup, Known
from gateway.clock import format_rfc3339
from gateway.cursor import JSON_PREFIX
from gateway.event import Draft, Event
from gateway.log.ports import Appended

_ROW = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_ONE = f"INSERT INTO event VALUES {_ROW}"
# Few different statements, so that SQLite keeps them prepared; it binds at most 32,766 values.
_INSERT_SOME = [
    (count, f"INSERT INTO event VALUES {', '.join([_ROW] * count)}")
    for count in (256, 64, 16, 4, 1)
]

COLUMNS = "offset, tenant, category, action, outcome, severity, actor, resources, body"

# Bound by: `near`, the least and the greatest value, the id, the tenant or NULL, after, until,
# rows. (`UNION` would sort both in tables.)
_FOUND = "(?5 IS NULL OR tenant = ?5) AND offset > ?6 AND offset <= ?7"
# Unsorted: sorting here takes a third of the time if they are few.
FIND = f"""
SELECT {COLUMNS} FROM event WHERE id = ?4 AND {_FOUND} AND offset IN (
    SELECT offset FROM dedup WHERE near = ?1 AND key BETWEEN ?2 AND ?3
    UNION ALL SELECT offset FROM renamed WHERE id = ?4
)
"""
_FIRST = " ORDER BY offset LIMIT ?8"
FIND_FIRST = FIND + _FIRST
# Includes events without keyed values, from before these existed.
FIND_ALSO_OLD = (
    f"{FIND} UNION SELECT {COLUMNS} FROM event INDEXED BY event_id WHERE id = ?4 AND {_FOUND}"
    + _FIRST
)

# Rows of one page. An aggregate takes its rows as they come, and these are in order.
_PAGE = """
FROM (SELECT * FROM event WHERE offset > ? AND offset <= ?{condition}
       ORDER BY offset{order} LIMIT ?)
"""

# Sizes of the bodies in a range, which SQLite knows without reading the bodies.
SIZES = """
SELECT count(*), sum(length(body)), max(length(body)) FROM event WHERE offset > ? AND offset <= ?
"""

# LIKE takes letters of ASCII alone as equal in either case; of a BLOB it is never true here.
NEEDLES = NeedleSql(
    "CAST(body AS TEXT) LIKE ? ESCAPE '\\'",
    "instr(body, X'5C')",
    lambda needle: "%" + re.sub("([%_])", r"\\\1", needle) + "%",
)

_READ_EVENTS = """
SELECT json_group_array(json_array(offset, tenant, category, action, outcome, severity,
                                   actor, resources, length(body))),
       CAST(group_concat(CAST(body AS TEXT), '') AS BLOB)
"""

_READ_LINES = """
SELECT count(*), max(offset), CAST(group_concat(
    ? || substr('00000000000000000000' || offset, -20) || '",' || CAST(body AS TEXT), char(10)
) AS BLOB)
"""


# Counts, as one JSON array of rows.
_ROWS = "SELECT json_group_array(json_array(place, bucket, value, number)) FROM ({rows})"
_BUCKETS = """
SELECT 0 AS place, recorded_at / ? AS bucket, '' AS value, count(*) AS number
  FROM event WHERE offset > ? AND offset <= ?{condition} GROUP BY bucket
"""
# The events are read once, for all members.
_CHOSEN = """
WITH chosen AS MATERIALIZED (
    SELECT recorded_at / ? AS bucket, {members}
      FROM event WHERE offset > ? AND offset <= ?{condition}
)
"""
_VALUES = """
SELECT {place} AS place, bucket, CAST({member} AS TEXT) AS value, count(*) AS number
  FROM chosen GROUP BY bucket, {member}
"""

# Offsets found by bisection, all in one statement. Bound by: a power of two above the head, and the
# times as a JSON array.
LAST_BEFORE_EACH = """
WITH RECURSIVE search (place, micros, low, size) AS (
    SELECT key, value, floor, ?1 FROM json_each(?2), log
    UNION ALL
    SELECT place, micros, low + iif(
        (SELECT recorded_at FROM event WHERE offset = low + size) < micros, size, 0
    ), size / 2 FROM search WHERE size > 0
)
SELECT json_group_array(low) FROM (SELECT low FROM search WHERE size = 0 ORDER BY place)
"""


def read_events_sql(condition: str) -> str:
    """Query of a page of events. Bound by: after, until, the condition's values, rows."""
    return _READ_EVENTS + _PAGE.format(condition=condition, order="")


def read_back_sql(condition: str) -> str:
    """Query of a page of events, newest first. Bound as `read_events_sql`."""
    return _READ_EVENTS + _PAGE.format(condition=condition, order=" DESC")


def read_raw_sql(condition: str) -> str:
    """Query of a raw page. Bound by: the JSON up to the offset, then as `read_events_sql`."""
    return _READ_LINES + _PAGE.format(condition=condition, order="")


@lru_cache(64)
def count_sql(members: tuple[str, ...], condition: str) -> str:
    """Query of the rows of `counts_of_rows`, as one JSON array. Bound by: the microseconds of a
    bucket, after, until, the condition's values."""
    if not members:
        return _ROWS.format(rows=_BUCKETS.format(condition=condition))
    chosen = _CHOSEN.format(members=", ".join(members), condition=condition)
    rows = [_VALUES.format(place=place, member=member) for place, member in enumerate(members)]
    return chosen + _ROWS.format(rows=" UNION ALL ".join(rows))


def json_head(epoch: str) -> bytes:
    """Beginning of native JSON, up to the offset."""
    return JSON_PREFIX + epoch.encode() + b"-"


class WriteGroup:
    """The batches of one transaction."""

    def __init__(
        self, connection: apsw.Connection, dedup: Dedup, head: int, size: int, now: int
    ) -> None:
        self._connection = connection
        self._dedup = dedup
        self.head = head
        self.bytes = size
        # Drafts stored and their bodies, if none was a duplicate or stored under another id.
        self.drafts: list[Draft] = []
        self.bodies: list[bytes] = []
        self._now = now
        self._stamp = format_rfc3339(now).encode()

    def append(self, batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        """Store all batches at once or, if some ids may be known already, event by event."""
        drafts = [draft for batch in batches for draft in batch]
        bodies = [draft.stored(self._stamp) for draft in drafts]
        if not self._all_fresh(drafts, bodies):
            return [self._append_singly(batch) for batch in batches]
        results = []
        for batch in batches:
            first, self.head = self.head + 1, self.head + len(batch)
            results.append(Appended(len(batch), 0, first, self.head) if batch else _NOTHING)
        self.bytes += sum(map(len, bodies))
        self.drafts, self.bodies = drafts, bodies
        return results

    def _all_fresh(self, drafts: Sequence[Draft], bodies: Sequence[bytes]) -> bool:
        """Store all drafts if none may be known already; return whether it did."""
        if not self._dedup.has_old:
            if not self._dedup.add_all(drafts, self.head):
                return False
            self._insert(drafts, bodies)
            return True
        try:
            # A savepoint: a failing second statement undoes the first.
            with self._connection:
                if not self._dedup.add_all(drafts, self.head):
                    return False
                self._insert(drafts, bodies)
        except apsw.ConstraintError:
            return False
        return True

    def _insert(self, drafts: Sequence[Draft], bodies: Sequence[bytes]) -> None:
        if len(drafts) == 1:
            row = row_of(drafts[0], drafts[0].id, self._now, bodies[0])
            self._connection.execute(_INSERT_ONE, (self.head + 1, *row))
            return
        at = 0
        for count, insert in _INSERT_SOME:
            while len(drafts) - at >= count:
                end = at + count
                values: list[Any] = []
                rows = zip(drafts[at:end], bodies[at:end], strict=True)
                for offset, (draft, body) in enumerate(rows, self.head + at + 1):
                    values += (offset, *row_of(draft, draft.id, self._now, body))
                self._connection.execute(insert, values)
                at = end

    def _append_singly(self, batch: Sequence[Draft]) -> Appended:
        places = []
        accepted = conflicts = 0
        for draft in batch:
            classified = self._dedup.classify(draft)
            if isinstance(classified, Known):
                if classified.place is not None:
                    places.append(classified.place)
                continue
            body = draft.stored(self._stamp, classified.id)
            self.head += 1
            self.bytes += len(body)
            accepted += 1
            conflicts += classified.taken
            self._dedup.add(classified, draft.tenant, self.head)
            row = row_of(draft, classified.id, self._now, body)
            self._connection.execute(_INSERT_ONE, (self.head, *row))
            places.append(self.head)
        if not batch:
            return _NOTHING
        return Appended.at(accepted, len(batch) - accepted, places, self.head, conflicts)


_NOTHING = Appended(0, 0, 0, 0)


def row_of(draft: Draft, event_id: str, now: int, body: bytes) -> tuple[Any, ...]:
    """Parameters of `_INSERT_ONE` after the offset."""
    return (
        now, draft.tenant, draft.category, draft.action, draft.outcome, draft.severity,
        draft.actor, draft.resources, event_id, body,
    )  # fmt: skip


def event_of(row: Sequence[Any], head: bytes) -> Event:
    """Event of a row of `COLUMNS`."""
    offset, tenant, category, action, outcome, severity, actor, resources, body = row
    start = b"%b%020d" % (head, offset)
    json = b'%b",%b' % (start, body)
    cursor = start[len(JSON_PREFIX) :]
    return Event(
        offset, tenant, category, action, outcome, severity, actor, resources, cursor, json
    )


def events_of(columns: str, bodies: bytes, head: bytes) -> list[Event]:
    """Events of a page read with `read_events_sql`."""
    events = []
    at = 0
    for row in orjson.loads(columns):
        end = at + row[8]
        row[8] = bodies[at:end]
        events.append(event_of(row, head))
        at = end
    return events
