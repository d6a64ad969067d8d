"""`Consumers` in PostgreSQL, beside the log and the keys."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping

import asyncpg
from msgspec import structs

from gateway.adapters.postgres.database import SCHEMA, Database, migrate
from gateway.histogram import Histogram
from gateway.streaming.consumers.ports import RowChange
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow, Move, moved

_NAMES = ConsumerRow.__struct_fields__
_TYPES = {
    "generation": "bigint", "unacknowledged": "bigint", "redelivered": "bigint",
    "lease_until": "float8", "created_at": "float8", "acked_at": "float8", "updated_at": "float8",
}  # fmt: skip
_COLUMNS = ", ".join(_NAMES)
_OTHERS = [name for name in _NAMES if name not in ("owner", "name")]
_SELECT = f"SELECT {_COLUMNS} FROM consumer"
_ONE = "WHERE owner = $1 AND name = $2"
_PUT = (
    f"INSERT INTO consumer ({_COLUMNS}) VALUES "
    f"({', '.join(f'${place}' for place in range(1, len(_NAMES) + 1))}) "
    f"ON CONFLICT (owner, name) DO UPDATE SET "
    f"{', '.join(f'{name} = excluded.{name}' for name in _OTHERS)}"
)
_KEYS = "unnest($1::text[], $2::text[]) AS wanted (owner, name) JOIN consumer USING (owner, name)"
_SOME = f"SELECT {_COLUMNS} FROM {_KEYS} ORDER BY owner, name"
# In a fixed order, so that two processes never deadlock.
_LOCKED = f"{_SOME} FOR UPDATE OF consumer"
_BOUND = ", ".join(
    f"${place}::{_TYPES.get(name, 'text')}[]" for place, name in enumerate(_NAMES, 1)
)
_UPDATE = (
    f"UPDATE consumer AS kept SET {', '.join(f'{name} = made.{name}' for name in _OTHERS)} "
    f"FROM unnest({_BOUND}) AS made ({_COLUMNS}) "
    "WHERE kept.owner = made.owner AND kept.name = made.name"
)
# The changes of one owner, one after the other.
_TURN = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.consumer.' || $1, 0))"
_UNREADABLE = "the consumers cannot be read"
_UNCHANGED = "the position of the consumer was not stored"
_CONNECTIONS = 2


class PostgresConsumers:
    """Positions of readers in one PostgreSQL schema. Use `await PostgresConsumers.open(...)`."""

    def __init__(self, url: str, schema: str) -> None:
        self.commit_seconds = Histogram()
        # Short, so that a gateway does not wait long at its stop while the database hangs.
        self._database = Database(
            url, _CONNECTIONS, schema, statement_timeout="3s", lock_timeout="2s"
        )

    @classmethod
    async def open(cls, url: str, schema: str = SCHEMA) -> PostgresConsumers:
        """Open the rows. Raises `Unavailable` without a database, `GatewayError` if unusable."""
        await migrate(url, schema)
        return cls(url, schema)

    async def get(self, owner: str, name: str) -> ConsumerRow | None:
        async with self._database.connection(_UNREADABLE) as connection:
            return _row(await connection.fetchrow(f"{_SELECT} {_ONE}", owner, name))

    async def all(self, owner: str | None = None) -> list[ConsumerRow]:
        async with self._database.connection(_UNREADABLE) as connection:
            if owner is None:
                rows = await connection.fetch(f"{_SELECT} ORDER BY owner, name")
            else:
                rows = await connection.fetch(f"{_SELECT} WHERE owner = $1 ORDER BY name", owner)
        return list(_rows(rows).values())

    async def change(self, owner: str, name: str, change: RowChange) -> ConsumerRow | None:
        began = time.perf_counter()
        async with (
            self._database.connection(_UNCHANGED) as connection,
            connection.transaction(),
        ):
            await connection.execute(_TURN, owner)
            row = _row(await connection.fetchrow(f"{_SELECT} {_ONE} FOR UPDATE", owner, name))
            others: int = await connection.fetchval(
                "SELECT count(*) FROM consumer WHERE owner = $1 AND name <> $2", owner, name
            )
            after = change(row, others)
            if after is row:
                return row
            if after is None:
                await connection.execute(f"DELETE FROM consumer {_ONE}", owner, name)
            else:
                await connection.execute(_PUT, *structs.astuple(after))
        self.commit_seconds.observe(time.perf_counter() - began)
        return after

    async def commit(
        self, moves: Mapping[ConsumerKey, Move], watched: Collection[ConsumerKey] = ()
    ) -> dict[ConsumerKey, ConsumerRow]:
        async with self._database.connection(_UNCHANGED) as connection:
            rows = await _some(connection, _SOME, watched) if watched else {}
            if not moves:
                return rows
            began = time.perf_counter()
            async with connection.transaction():
                rows |= await _some(connection, _LOCKED, moves)
                changed = [
                    after
                    for key, move in moves.items()
                    if key in rows and (after := moved(rows[key], move)) is not rows[key]
                ]
                if changed:
                    columns = zip(*map(structs.astuple, changed), strict=True)
                    await connection.execute(_UPDATE, *map(list, columns))
            if changed:
                self.commit_seconds.observe(time.perf_counter() - began)
        return {**rows, **{row.key: row for row in changed}}

    async def close(self) -> None:
        await self._database.close()


async def _some(
    connection: asyncpg.Connection, query: str, keys: Collection[ConsumerKey]
) -> dict[ConsumerKey, ConsumerRow]:
    owners, names = [key.owner for key in keys], [key.name for key in keys]
    return _rows(await connection.fetch(query, owners, names))


def _row(row: asyncpg.Record | None) -> ConsumerRow | None:
    return None if row is None else ConsumerRow(**dict(row))


def _rows(rows: Iterable[asyncpg.Record]) -> dict[ConsumerKey, ConsumerRow]:
    made = [ConsumerRow(**dict(row)) for row in rows]
    return {row.key: row for row in made}
