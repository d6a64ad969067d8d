"""Which rows of a followed table come next: told by their transactions, or by a horizon.

`ByTransaction` misses nothing, waits for nobody, and needs a column in the
table. `ByHorizon` needs nothing and gives up two things: rows come only when
every transaction has ended that was open when they were first seen, so one
that stays open holds up all; and a row whose key was drawn long before its
transaction first wrote may stay behind the horizon for ever.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import asyncpg
import msgspec

from gateway.store.ports import Horizon
from gateway.store.postgres_table import XID_COLUMN, Table

_VISIBLE = """
SELECT now::text, pg_snapshot_xmax(now)::text AS end, pg_snapshot_xmax(before)::text AS begin,
       ARRAY(SELECT xid::text FROM pg_snapshot_xip(before) AS xid
              WHERE pg_visible_in_snapshot(xid, now)) AS finished
  FROM pg_current_snapshot() AS now, CAST($1::text AS pg_snapshot) AS before
"""
_CUT = "SELECT cut_snapshot($1::text::pg_snapshot, $2::text::pg_snapshot, $3::text::xid8)::text"
_PASSED = "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8"
# Everybody may see these locks, which every transaction has that has written, also a prepared one.
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


class Position(msgspec.Struct, frozen=True):
    """How far the table has been brought in; see `sql/postgres_source_001.sql`."""

    snapshot: str | None = NOTHING
    xid: str | None = None
    key: str | None = None


class Found(msgspec.Struct, frozen=True):
    """Rows with `key` and `row`, and the position behind them; None if nothing has changed."""

    rows: list[Any]
    position: Position | None


class Follower(Protocol):
    """Finds the next rows of one table. `by_key`: only their keys tell which are new."""

    by_key: bool

    async def find(
        self, connection: asyncpg.Connection, position: Position, most: int
    ) -> Found: ...

    async def horizon(self, connection: asyncpg.Connection) -> Horizon | None:
        """What the newest rows wait for; None if for nothing."""


class ByTransaction:
    """By comparing snapshots, as the sequencer does."""

    by_key = False

    def __init__(self, table: Table) -> None:
        key, xid = f"it.{table.key}", f"it.{XID_COLUMN}"
        begun = table.select(
            f"{xid} = $2::text::xid8 AND {key} > $3::text::{table.key_type}", f"{key} LIMIT $7"
        )
        late = table.select(f"{xid} = done.xid", f"{key} LIMIT $7")
        recent = table.select(
            f"{xid} >= $4::text::xid8 AND {xid} < $5::text::xid8"
            f" AND pg_visible_in_snapshot({xid}, $6::text::pg_snapshot)",
            f"{xid}, {key} LIMIT $7",
        )
        # Each part comes from the index in its order, and ends after so many rows.
        self._sql = f"""
            SELECT * FROM (
                ({begun})
                UNION ALL
                (SELECT waiting.* FROM unnest($1::text[]::xid8[]) AS done (xid)
                  CROSS JOIN LATERAL ({late}) AS waiting
                  WHERE done.xid IS DISTINCT FROM $2::text::xid8)
                UNION ALL
                ({recent})
            ) AS found ORDER BY xid::xid8, key::{table.key_type} LIMIT $7
        """

    async def find(self, connection: asyncpg.Connection, position: Position, most: int) -> Found:
        seen = await connection.fetchrow(_VISIBLE, position.snapshot or NOTHING)
        if seen["begin"] == seen["end"] and not seen["finished"]:
            return Found([], None)
        rows = await connection.fetch(
            self._sql, seen["finished"], position.xid, position.key, seen["begin"], seen["end"],
            seen["now"], most,
        )  # fmt: skip
        if len(rows) < most:
            return Found(rows, Position(seen["now"]))
        xid, key = rows[-1]["xid"], rows[-1]["key"]
        snapshot = await connection.fetchval(_CUT, position.snapshot or NOTHING, seen["now"], xid)
        return Found(rows, Position(snapshot, xid, key))

    async def horizon(self, connection: asyncpg.Connection) -> Horizon | None:
        return None


class ByHorizon:
    """By growing keys, up to the horizon below which no transaction can add any more."""

    by_key = True

    def __init__(self, table: Table) -> None:
        key, of_type = f"it.{table.key}", f"$1::text::{table.key_type}"
        self._rows = table.select(
            f"($1::text IS NULL OR {key} > {of_type}) AND {key} <= $2::text::{table.key_type}",
            f"{key} LIMIT $3",
        )
        self._newest = (
            f"SELECT {key}::text AS key, pg_snapshot_xmax(pg_current_snapshot())::text AS xid"
            f" FROM {table.name} AS it WHERE $1::text IS NULL OR {key} > {of_type}"
            f" ORDER BY {key} DESC LIMIT 1"
        )
        # The highest key that was seen, the first transaction that began after it, and when.
        self._mark: tuple[str, str, float] | None = None

    async def find(self, connection: asyncpg.Connection, position: Position, most: int) -> Found:
        if self._mark is None:
            newest = await connection.fetchrow(self._newest, position.key)
            if newest is None:
                return Found([], None)
            self._mark = (newest["key"], newest["xid"], time.monotonic())
        key, xid, _ = self._mark
        if not await connection.fetchval(_PASSED, xid):
            return Found([], None)
        rows = await connection.fetch(self._rows, position.key, key, most)
        if len(rows) < most:
            self._mark = None
            return Found(rows, Position(None, None, key))
        return Found(rows, Position(None, None, rows[-1]["key"]))

    async def horizon(self, connection: asyncpg.Connection) -> Horizon | None:
        if self._mark is None:
            return None
        _, xid, since = self._mark
        seconds = time.monotonic() - since
        oldest = await connection.fetchrow(_OLDEST, xid)
        if oldest is None:
            return Horizon(seconds, None, None, None, None)
        return Horizon(seconds, *oldest.values())
