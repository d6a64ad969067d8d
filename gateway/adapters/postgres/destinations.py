"""`Destinations` in PostgreSQL, beside the log and the keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from gateway.adapters.postgres.database import SCHEMA, Database, migrate, storable
from gateway.delivery.destination import Destination, decode_destination, decode_destinations
from gateway.delivery.ports import DeadLetter, DestinationChange

_encode = msgspec.json.Encoder().encode
_dead_letter = msgspec.json.Decoder(DeadLetter).decode
_UNREADABLE = "the destinations cannot be read"
_UNCHANGED = "the destination was not changed"
_ONE = "SELECT document FROM destination WHERE name = $1"
_COUNT = "SELECT count(*) FROM dead_letter WHERE destination = $1"
# The changes, one after the other.
_TURN = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.destination', 0))"
# In the order of their names, so that replicas do not wait for each other; and no destination goes
# meanwhile, as that would fail for all.
_PUT_STATUSES = (
    "INSERT INTO destination_status "
    "SELECT name, given.document FROM unnest($1::text[], $2::bytea[]) AS given (name, document) "
    "JOIN destination USING (name) ORDER BY name FOR KEY SHARE OF destination "
    "ON CONFLICT (destination) DO UPDATE SET document = excluded.document"
)


class PostgresDestinations:
    """Destinations in one PostgreSQL schema. Use `await PostgresDestinations.open(...)`."""

    def __init__(self, url: str, schema: str) -> None:
        # Short, so that a gateway does not wait long at its stop while the database hangs.
        self._database = Database(url, 1, schema, statement_timeout="3s", lock_timeout="2s")

    @classmethod
    async def open(cls, url: str, schema: str = SCHEMA) -> PostgresDestinations:
        """Open them. Raises `Unavailable` without a database, `GatewayError` if unusable."""
        await migrate(url, schema)
        return cls(url, schema)

    async def version(self) -> int:
        async with self._database.connection(_UNREADABLE) as connection:
            version: int = await connection.fetchval("SELECT version FROM destination_version")
        return version

    async def all(self) -> list[Destination]:
        async with self._database.connection(_UNREADABLE) as connection:
            rows = await connection.fetch("SELECT document FROM destination ORDER BY name")
        return decode_destinations(row["document"] for row in rows)

    async def get(self, name: str) -> Destination | None:
        async with self._database.connection(_UNREADABLE) as connection:
            document = await connection.fetchval(_ONE, storable(name))
        return None if document is None else decode_destination(document)

    async def change(self, name: str, change: DestinationChange) -> Destination | None:
        async with (
            self._database.connection(_UNCHANGED) as connection,
            connection.transaction(),
        ):
            await connection.execute(_TURN)
            document = await connection.fetchval(_ONE, storable(name))
            before = None if document is None else decode_destination(document)
            others: int = await connection.fetchval(
                "SELECT count(*) FROM destination WHERE name <> $1", storable(name)
            )
            after = change(before, others)
            if after is before:
                return before
            revision: int = await connection.fetchval(
                "UPDATE destination_version SET version = version + 1 RETURNING version"
            )
            if after is None:
                await connection.execute("DELETE FROM destination WHERE name = $1", storable(name))
                return None
            after = replace(after, revision=revision)
            await connection.execute(
                "INSERT INTO destination VALUES ($1, $2)"
                " ON CONFLICT (name) DO UPDATE SET document = excluded.document",
                name,
                _encode(after),
            )
        return after

    async def add_dead_letters(self, name: str, letters: Sequence[DeadLetter]) -> int:
        async with (
            self._database.connection("the dead letters were not stored") as connection,
            connection.transaction(),
        ):
            # Held until the end, so that nobody deletes the destination meanwhile.
            if await connection.fetchval(f"{_ONE} FOR SHARE", storable(name)) is None:
                return 0
            await connection.executemany(
                "INSERT INTO dead_letter VALUES ($1, $2, $3) ON CONFLICT (destination, cursor)"
                " DO UPDATE SET document = excluded.document",
                [(name, letter.cursor, _encode(letter)) for letter in letters],
            )
            count: int = await connection.fetchval(_COUNT, name)
        return count

    async def dead_letters(self, name: str, after: str, limit: int) -> list[DeadLetter]:
        async with self._database.connection(_UNREADABLE) as connection:
            rows = await connection.fetch(
                "SELECT document FROM dead_letter WHERE destination = $1 AND cursor > $2"
                " ORDER BY cursor LIMIT $3",
                storable(name),
                storable(after),
                limit,
            )
        return [_dead_letter(row["document"]) for row in rows]

    async def count_dead_letters(self, name: str) -> int:
        async with self._database.connection(_UNREADABLE) as connection:
            count: int = await connection.fetchval(_COUNT, storable(name))
        return count

    async def delete_dead_letters(self, name: str, cursors: Sequence[str] | None) -> int:
        async with self._database.connection("the dead letters were not deleted") as connection:
            rows = await connection.fetch(
                "DELETE FROM dead_letter WHERE destination = $1"
                " AND ($2::text[] IS NULL OR cursor = ANY($2)) RETURNING cursor",
                storable(name),
                None if cursors is None else list(map(storable, cursors)),
            )
        return len(rows)

    async def put_statuses(self, statuses: Mapping[str, bytes]) -> None:
        async with self._database.connection(_UNCHANGED) as connection:
            await connection.execute(
                _PUT_STATUSES, list(map(storable, statuses)), list(statuses.values())
            )

    async def status(self, name: str) -> bytes | None:
        async with self._database.connection(_UNREADABLE) as connection:
            document: bytes | None = await connection.fetchval(
                "SELECT document FROM destination_status WHERE destination = $1", storable(name)
            )
        return document

    async def statuses(self) -> dict[str, bytes]:
        async with self._database.connection(_UNREADABLE) as connection:
            rows = await connection.fetch("SELECT destination, document FROM destination_status")
        return {row["destination"]: row["document"] for row in rows}

    async def close(self) -> None:
        await self._database.close()
