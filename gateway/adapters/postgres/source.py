"""Follower of a table that others write: brings each committed row into the log once.

One transaction maps rows, copies them into the event table and saves the position. So the log does
not change when the table does, and another gateway can continue. While it does, another connection
finds the rows after these.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import asyncpg

from gateway.adapters.postgres.database import SCHEMA, Database, migrate
from gateway.adapters.postgres.follow import (
    HEAVY,
    ByHorizon,
    ByTransaction,
    Follower,
    FollowPosition,
    Found,
)
from gateway.adapters.postgres.rows import ARRIVING, followed_rows, parts_of
from gateway.adapters.postgres.table import XID_COLUMN, Table, TableSettings, inspect, reading
from gateway.clock import Clock
from gateway.errors import GatewayError, Unavailable
from gateway.ingest.followed_table import Horizon
from gateway.ingest.sources.row_mapping import RowMapping
from gateway.log.identity import KeyedValues

_ROWS = 2_000
_BUSY_SECONDS = 0.005
_QUIET_SECONDS = 0.1
_AWAY_SECONDS = 0.5
_SLOWER = 1.5
# A position without new rows is saved as well, so that what it passed is not read again.
_SAVE_SECONDS = 1.0
_PREPARE_SECONDS = 86_400
_POLL_SECONDS = 1.0
_GROWING = ("smallint", "integer", "bigint")
_LONG_SECONDS = 60.0
_LOGGER = logging.getLogger(__name__)

_TURN = """
SELECT pg_try_advisory_xact_lock(hashtextextended(current_schema() || '.source.' || $1, 0))
"""
_POSITION = """
SELECT number, source_table, snapshot::text, partial_xid::text, partial_key, again_before::text,
       pg_snapshot_xmax(pg_current_snapshot())::text AS next
  FROM source_step WHERE source = $1 ORDER BY number DESC LIMIT 1
"""
_SAVE = """
INSERT INTO source_step VALUES ($1, $2, $3, $4::text::pg_snapshot, $5::text::xid8, $6,
                                $7::text::xid8)
"""
_FORGET = "DELETE FROM source_step WHERE source = $1 AND number = $2 - 100"


class _Ready(NamedTuple):
    """Rows after `position` that were found ahead of the step that stores them."""

    position: FollowPosition
    found: Found


class TableSource:
    """Source of one followed table, beside an open `PostgresLog` on the same schema.

    Use `await TableSource.open(...)`, and run `watch(log.poll_now)` as a task.
    """

    def __init__(
        self, database: Database, table: Table, mapping: RowMapping, follower: Follower,
        clock: Clock, values: KeyedValues,
    ) -> None:  # fmt: skip
        self._database = database
        self._values = values
        self._table = table
        self._mapping = mapping
        self._follower = follower
        self._clock = clock
        self._most = _ROWS
        # Behind it there were further rows, and those of them that are found already.
        self._left: FollowPosition | None = None
        self._ready: _Ready | None = None
        self._saved_at = 0.0
        self._polled_at = 0.0
        self._warned = False
        self.rows = 0
        self.degraded_reason: GatewayError | None = None
        self.waits: Horizon | None = None

    @classmethod
    async def open(
        cls,
        url: str,
        source: TableSettings,
        clock: Clock,
        schema: str = SCHEMA,
        *,
        secret: bytes = b"",
    ) -> TableSource:
        """Open the source; `secret` is the secret of the log. Raises `GatewayError` with the
        statement to run if the table is not prepared, `InvalidSetting` if it lacks columns."""
        await migrate(url, schema)
        mapping = source.mapping()
        # Without sync: the log's next step makes the rows durable. A hanging client is cut off.
        database = Database(
            url, 3, schema, synchronous_commit="off", idle_in_transaction_session_timeout="2s"
        )
        follower: Follower
        try:
            async with database.connection("the table cannot be read") as connection:
                async with reading(source):
                    table = await inspect(connection, source, mapping)
                if source.read_only:
                    _check_growing(table)
                    follower = ByHorizon(table)
                else:
                    await _check_prepared(connection, table)
                    follower = ByTransaction(table)
        except BaseException:
            await database.close()
            raise
        return cls(database, table, mapping, follower, clock, KeyedValues(secret))

    @property
    def name(self) -> str:
        return self._table.name

    @property
    def prefix(self) -> str:
        return self._mapping.prefix

    @property
    def marked(self) -> int:
        return self._mapping.marked

    async def collect(self) -> int:
        """Bring in the next rows; return how many. 0 also while another gateway does it.

        Reads fewer at a time, down to one, after the server could not read so many.
        """
        try:
            rows = await self._collect()
        except Unavailable as error:
            if isinstance(error.__cause__, HEAVY):
                self._most = max(1, self._most // 2)
            raise
        if rows:
            self._most = min(_ROWS, self._most * 2)
        return rows

    async def _collect(self) -> int:
        """One step. While its rows are mapped and stored, the server finds the next ones for
        another connection: their position only counts once it is saved, with the rows."""
        ready, self._ready = self._ready, None
        coming: _Ready | BaseException | None = None
        if ready is not None and ready.found.position is not None and ready.found.more:
            rows, coming = await asyncio.gather(
                self._bring_in(ready), self._find_ahead(ready.found.position),
                return_exceptions=True,
            )  # fmt: skip
            if isinstance(rows, BaseException):
                raise rows
        else:
            rows = await self._bring_in(ready)
            if self._left is not None:
                coming = await self._find_ahead(self._left)
        if self._left is not None and isinstance(coming, _Ready):
            self._ready = coming
        return rows

    async def _find_ahead(self, position: FollowPosition) -> _Ready | None:
        """Rows after a position; None if there are none, or the next step has to find out why."""
        try:
            async with (
                self._database.connection("the table cannot be followed") as connection,
                connection.transaction(),
            ):
                found = await self._follower.find(connection, position, self._most)
        except Unavailable:
            return None
        return _Ready(position, found) if found.rows else None

    async def _bring_in(self, ready: _Ready | None) -> int:
        """Store the next rows and the position after them; return how many."""
        self._left = None
        name, now = self._table.name, asyncio.get_running_loop().time()
        async with (
            self._database.connection("the table cannot be followed") as connection,
            connection.transaction(),
        ):
            if not await connection.fetchval(_TURN, name):
                return 0
            number, position, again = await self._position(connection)
            if ready is not None and ready.position != position:
                # Another gateway has brought them in.
                return 0
            found = (
                ready.found
                if ready
                else await self._follower.find(connection, position, self._most)
            )
            if found.position is None or not (found.rows or now > self._saved_at + _SAVE_SECONDS):
                return 0
            if found.rows:
                await connection.copy_records_to_table(
                    "event", records=self._arriving(found.rows, again), columns=ARRIVING
                )
            at = found.position
            await connection.execute(
                _SAVE, name, number + 1, self._table.oid, at.snapshot, at.xid, at.key, again
            )
            await connection.execute(_FORGET, name, number)
        self._saved_at = now
        if found.more:
            self._left = found.position
        self.rows += len(found.rows)
        return len(found.rows)

    async def watch(self, brought_in: Callable[[], None]) -> None:
        """Collect until cancelled; call `brought_in` after each time that rows came."""
        pause = _BUSY_SECONDS
        away = False
        while True:
            try:
                rows = await self.collect()
                await self._poll()
            except GatewayError as error:
                self.degraded_reason = error
                if not away:
                    _LOGGER.error("%s; trying again (%s)", error.detail, error.__cause__)
                away = True
                await asyncio.sleep(_AWAY_SECONDS)
                continue
            self.degraded_reason = None
            if away:
                away = False
                _LOGGER.warning("the table %s is followed again", self._table.name)
            if rows:
                brought_in()
                pause = _BUSY_SECONDS if self._left is None else 0.0
            else:
                pause = min(max(pause, _BUSY_SECONDS) * _SLOWER, _QUIET_SECONDS)
            await asyncio.sleep(pause)

    async def _poll(self) -> None:
        """Look up which transaction the newest rows wait for, and log once if it takes long."""
        now = asyncio.get_running_loop().time()
        if now < self._polled_at + _POLL_SECONDS:
            return
        self._polled_at = now
        self.waits = await self.horizon()
        if self.waits is None or self.waits.seconds < _LONG_SECONDS:
            self._warned = False
        elif not self._warned:
            self._warned = True
            _LOGGER.warning(
                "rows of %s have been waiting for %.0f s, for a transaction of process %s "
                "(user %s, %s) to end",
                self.name, self.waits.seconds, self.waits.pid or "unknown",
                self.waits.user or "unknown", self.waits.application or "unknown",
            )  # fmt: skip

    async def horizon(self) -> Horizon | None:
        """Transaction that the newest rows of a read-only table wait for; None if there is none."""
        async with self._database.connection("the horizon is not known") as connection:
            return await self._follower.horizon(connection)

    async def close(self) -> None:
        await self._database.close()

    async def _position(
        self, connection: asyncpg.Connection
    ) -> tuple[int, FollowPosition, str | None]:
        """Number of the step, its position, and the transaction before which rows may be known."""
        row = await connection.fetchrow(_POSITION, self._table.name)
        if row is None:
            return 0, FollowPosition(), None
        if self._follower.by_key:
            # A restore keeps the keys.
            known = row["snapshot"] is None
        else:
            # A restore from a dump numbers transactions anew.
            known = row["snapshot"] is not None and row["source_table"] == self._table.oid
        if not known:
            # All rows are read again; those already in the log are recognised.
            return row["number"], FollowPosition(), row["next"]
        position = FollowPosition(row["snapshot"], row["partial_xid"], row["partial_key"])
        return row["number"], position, row["again_before"]

    async def _arriving(
        self, rows: Sequence[Any], again: str | None
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Values of the columns `ARRIVING` of each row, mapped as the server takes them in."""
        now = int(self._clock.now() * 1_000_000)
        batch = secrets.randbits(62) + 1
        for part in parts_of(rows):
            drafts, batches, row_ids = [], [], []
            for row in part:
                key = row["key"]
                before = self._follower.by_key or (again and int(row["xid"]) < int(again))
                drafts.append(self._mapping.draft(key, row["row"]))
                batches.append(-batch if before else batch)
                row_ids.append(self._mapping.row_id(key))
            for values in followed_rows(drafts, self._values, batches, now, row_ids):
                yield values
            # The event loop has a turn.
            await asyncio.sleep(0)


async def preparation(url: str, source: TableSettings, schema: str = SCHEMA) -> str | None:
    """Statement that adds what following needs to the table; None if nothing is missing.

    The owner of the table reads it before running it.
    """
    return (await look_at(url, source, schema)).preparation()


async def look_at(url: str, source: TableSettings, schema: str = SCHEMA) -> Table:
    """The table in its present state. Raises as `inspect` does."""
    mapping = source.mapping()
    database = Database(url, 1, schema)
    try:
        async with (
            database.connection("the table cannot be read") as connection,
            reading(source),
        ):
            return await inspect(connection, source, mapping)
    finally:
        await database.close()


async def prepare(url: str, source: TableSettings, schema: str = SCHEMA) -> str | None:
    """Run the statement of `preparation`, and return it."""
    statement = await preparation(url, source, schema)
    if statement is None:
        return None
    # Building an index takes long, but waiting for the table must not: all others wait behind it.
    database = Database(url, 1, schema, statement_timeout="0")
    try:
        async with database.connection("the table was not prepared") as connection:
            await connection.execute(statement, timeout=_PREPARE_SECONDS)
    except Unavailable as error:
        if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            raise GatewayError(
                f"store.table: this user does not own {source.name}; let its owner run: {statement}"
                ' -- or set store.table_mode = "read-only", which gives up what its help says',
                code="table_unusable",
            ) from error
        raise
    finally:
        await database.close()
    return statement


def _check_growing(table: Table) -> None:
    """Refuse a key that does not grow: rows are then found by their keys alone."""
    if table.key_type not in _GROWING:
        raise GatewayError(
            f"store.table_mode: {table.name} can only be read if its key grows, and {table.key} is "
            f"{table.key_type}; use the mode prepared",
            code="table_unusable",
        )


async def _check_prepared(connection: asyncpg.Connection, table: Table) -> None:
    if statement := table.preparation():
        raise GatewayError(
            f"store.table: {table.name} is not prepared; run `audit-gateway store prepare`, or as "
            f"its owner: {statement}",
            code="table_not_prepared",
        )
    # Such rows would be waited for: their transactions lie in the future of this server.
    if await connection.fetchval(
        f"SELECT true FROM {table.name} WHERE {XID_COLUMN} >="
        " pg_snapshot_xmax(pg_current_snapshot()) LIMIT 1"
    ):
        raise GatewayError(
            f"store.table: {table.name} was restored from another server; run once, as its owner: "
            f"UPDATE {table.name} SET {XID_COLUMN} = pg_current_xact_id()",
            code="table_restored",
        )
