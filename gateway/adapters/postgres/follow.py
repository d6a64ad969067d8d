"""Search for new rows of a followed table, by their transactions or up to a horizon.

`ByTransaction` misses no row and waits for no transaction, but needs a column in the table.
`ByHorizon` needs no column, at two costs: rows come only when every transaction has ended that was
open when they were first seen, so one open transaction delays all; and a row may be missed if its
key was drawn long before its transaction first wrote.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import asyncpg
import msgspec

from gateway.adapters.postgres.table import XID_COLUMN, Table
from gateway.ingest.followed_table import Horizon

_VISIBLE = """
SELECT now::text, pg_snapshot_xmax(now)::text AS end, pg_snapshot_xmax(before)::text AS begin,
       ARRAY(SELECT xid::text FROM pg_snapshot_xip(before) AS xid
              WHERE pg_visible_in_snapshot(xid, now)) AS finished
  FROM pg_current_snapshot() AS now, CAST($1::text AS pg_snapshot) AS before
"""
_CUT = "SELECT cut_snapshot($1::text::pg_snapshot, $2::text::pg_snapshot, $3::text::xid8)::text"
_PASSED = "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8"
# Visible to every user: each transaction that has written, also a prepared one, holds such a lock.
_OLDEST = """
SELECT pid, usename::text, coalesce(application_name, 'prepared transaction ' || gid),
       extract(epoch FROM now() - coalesce(xact_start, prepared))::float8
  FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)
                LEFT JOIN pg_prepared_xacts ON transaction = transactionid
 WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted
   AND age(transactionid) > age($1::text::xid8::xid)
 ORDER BY age(transactionid) DESC LIMIT 1
"""
# The first snapshot: nothing is visible in it.
NOTHING = "3:3:"


# Bytes of rows that one transaction brings in, and rows fetched at once.
_BYTES = 16 << 20
_AT_ONCE = 64
# Errors of the server for rows that need too much time or memory.
HEAVY = (
    asyncpg.QueryCanceledError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.OutOfMemoryError,
)


async def _fetch(
    connection: asyncpg.Connection, sql: str, *bound: Any, most: int
) -> tuple[list[Any], bool]:
    """Next rows, and whether there may be more; appends the last two parameters of `sql`."""
    if most > 1:
        return await _read(connection, sql, *bound, most, True)
    try:
        async with connection.transaction():
            return await _read(connection, sql, *bound, 1, True)
    except HEAVY:
        # The row itself is too heavy if its key alone can be read.
        return await _read(connection, sql, *bound, 1, False)


async def _read(connection: asyncpg.Connection, sql: str, *bound: Any) -> tuple[list[Any], bool]:
    most = bound[-2]
    cursor = await connection.cursor(sql, *bound)
    rows: list[Any] = []
    size = 0
    while size < _BYTES and len(rows) < most:
        some = await cursor.fetch(_AT_ONCE)
        rows += some
        size += sum(len(row["row"] or "") for row in some)
        if len(some) < _AT_ONCE:
            return rows, len(rows) == most
    return rows, True


class FollowPosition(msgspec.Struct, frozen=True):
    """Position in the followed table; see `sql/postgres_source_002.sql`."""

    snapshot: str | None = NOTHING
    xid: str | None = None
    key: str | None = None


class Found(msgspec.Struct, frozen=True):
    """Rows with `xid`, `key` and `row`, and the position after them; None if nothing has changed.

    `more`: further rows follow, as far as is known.
    """

    rows: list[Any]
    position: FollowPosition | None
    more: bool = False


class Follower(Protocol):
    """Finds the next rows of one table. `by_key`: only their keys show which are new."""

    by_key: bool

    async def find(
        self, connection: asyncpg.Connection, position: FollowPosition, most: int
    ) -> Found:
        """Up to `most` rows after `position`, and about `_BYTES`. Raises one of `HEAVY` if the
        server cannot read several rows; a single heavy row comes without its content."""
        ...

    async def horizon(self, connection: asyncpg.Connection) -> Horizon | None:
        """Transaction that the newest rows wait for, or None."""


class ByTransaction:
    """Finds new rows by comparing snapshots, as the sequencer does."""

    by_key = False

    def __init__(self, table: Table) -> None:
        key, xid = f"it.{table.key}", f"it.{XID_COLUMN}"
        # Rows older than the column share one number; with `=` the planner would take any index
        # with the order. The range, and both columns in the order, leave only the right one.
        begun = table.pick(
            f"{xid} BETWEEN $2::text::xid8 AND $2::text::xid8"
            f" AND {key} > $3::text::{table.key_type}",
            f"{xid}, {key} LIMIT $7",
        )
        late = table.pick(f"{xid} BETWEEN done.xid AND done.xid", f"{xid}, {key} LIMIT $7")
        recent = table.pick(
            f"{xid} >= $4::text::xid8 AND {xid} < $5::text::xid8"
            f" AND pg_visible_in_snapshot({xid}, $6::text::pg_snapshot)",
            f"{xid}, {key} LIMIT $7",
        )
        # Each part is read in the order of the index, up to the limit.
        picked = f"""
            SELECT * FROM (
                ({begun})
                UNION ALL
                (SELECT waiting.* FROM unnest($1::text[]::xid8[]) AS done (xid)
                  CROSS JOIN LATERAL ({late}) AS waiting
                  WHERE done.xid IS DISTINCT FROM $2::text::xid8)
                UNION ALL
                ({recent})
            ) AS found ORDER BY xid, key LIMIT $7
        """
        self._sql = table.show(picked, "picked.xid, picked.key", "$8::boolean")

    async def find(
        self, connection: asyncpg.Connection, position: FollowPosition, most: int
    ) -> Found:
        seen = await connection.fetchrow(_VISIBLE, position.snapshot or NOTHING)
        if seen["begin"] == seen["end"] and not seen["finished"]:
            return Found([], None)
        rows, more = await _fetch(
            connection, self._sql, seen["finished"], position.xid, position.key, seen["begin"],
            seen["end"], seen["now"], most=most,
        )  # fmt: skip
        if not more:
            return Found(rows, FollowPosition(seen["now"]))
        xid, key = rows[-1]["xid"], rows[-1]["key"]
        snapshot = await connection.fetchval(_CUT, position.snapshot or NOTHING, seen["now"], xid)
        return Found(rows, FollowPosition(snapshot, xid, key), more=True)

    async def horizon(self, connection: asyncpg.Connection) -> Horizon | None:
        return None


class ByHorizon:
    """Finds new rows by growing keys, up to the horizon that no open transaction can add below."""

    by_key = True

    def __init__(self, table: Table) -> None:
        key, of_type = f"it.{table.key}", f"$1::text::{table.key_type}"
        picked = table.pick(
            f"($1::text IS NULL OR {key} > {of_type}) AND {key} <= $2::text::{table.key_type}",
            f"{key} LIMIT $3",
        )
        self._sql = table.show(picked, "picked.key", "$4::boolean")
        self._newest = (
            f"SELECT {key}::text AS key, pg_snapshot_xmax(pg_current_snapshot())::text AS xid"
            f" FROM {table.name} AS it WHERE $1::text IS NULL OR {key} > {of_type}"
            f" ORDER BY {key} DESC LIMIT 1"
        )
        # Highest key seen, the first transaction that began after it, and the time of that look.
        self._mark: tuple[str, str, float] | None = None

    async def find(
        self, connection: asyncpg.Connection, position: FollowPosition, most: int
    ) -> Found:
        if self._mark is None:
            newest = await connection.fetchrow(self._newest, position.key)
            if newest is None:
                return Found([], None)
            self._mark = (newest["key"], newest["xid"], time.monotonic())
        key, xid, _ = self._mark
        if not await connection.fetchval(_PASSED, xid):
            return Found([], None)
        rows, more = await _fetch(connection, self._sql, position.key, key, most=most)
        if not more:
            self._mark = None
            return Found(rows, FollowPosition(None, None, key))
        return Found(rows, FollowPosition(None, None, rows[-1]["key"]), more=True)

    async def horizon(self, connection: asyncpg.Connection) -> Horizon | None:
        if self._mark is None:
            return None
        _, xid, since = self._mark
        seconds = time.monotonic() - since
        oldest = await connection.fetchrow(_OLDEST, xid)
        if oldest is None:
            return Horizon(seconds, None, None, None, None)
        return Horizon(seconds, *oldest.values())
