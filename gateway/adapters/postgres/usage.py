"""`Ledger` in PostgreSQL, beside log and keys: usage of all gateways on one database.

Durability: stored usage survives the death of process and machine, and a lossless failover.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.access.usage.meter import UsageBatch
from gateway.access.usage.windows import COUNTERS, TIERS, Counts, Tier
from gateway.adapters.postgres.database import SCHEMA, Database, migrate

_COLUMNS = ", ".join(COUNTERS)
_SUMS = ", ".join(f"{name} = kept.{name} + excluded.{name}" for name in COUNTERS)
_BOUND = ", ".join(f"${place}::bigint[]" for place in range(3, 4 + len(COUNTERS)))
_ADD = (
    f"INSERT INTO usage AS kept (key_id, tier, unit, {_COLUMNS}) "
    f"SELECT * FROM unnest($1::text[], $2::text[], {_BOUND}) "
    f"ON CONFLICT (key_id, tier, unit) DO UPDATE SET {_SUMS}"
)
_READ = (
    f"SELECT unit, {_COLUMNS} FROM usage WHERE key_id = $1 AND tier = $2 AND unit BETWEEN $3 AND $4"
)
_TOTALS = (
    f"SELECT key_id, {', '.join(f'sum({name})::bigint' for name in COUNTERS)} FROM usage "
    "WHERE key_id = ANY($1::text[]) AND tier = $2 AND unit BETWEEN $3 AND $4 GROUP BY key_id"
)
_NEW = (
    "INSERT INTO usage_writer AS known (id, number) VALUES ($1, $2) ON CONFLICT (id) "
    "DO UPDATE SET number = excluded.number, seen = now() WHERE known.number < excluded.number "
    "RETURNING true"
)
# Longer than any batch is retried.
_FORGET = "DELETE FROM usage_writer WHERE seen < now() - interval '1 day'"
_PRUNE = "DELETE FROM usage WHERE tier = $1 AND unit < $2"
_PRUNE_BATCHES = 1000


class PostgresLedger:
    """Usage in one PostgreSQL schema. Use `await PostgresLedger.open(...)`."""

    def __init__(self, url: str, schema: str) -> None:
        # Short, so that a gateway does not wait long at its stop while the database hangs.
        self._database = Database(url, 1, schema, statement_timeout="3s", lock_timeout="2s")

    @classmethod
    async def open(cls, url: str, schema: str = SCHEMA) -> PostgresLedger:
        """Open the ledger. Raises `Unavailable` without a database, `GatewayError` if unusable."""
        await migrate(url, schema)
        return cls(url, schema)

    async def add(self, batch: UsageBatch) -> None:
        # In a fixed order, so that two processes never deadlock.
        rows = sorted(
            (key_id, tier.unit, tier.index(minute * 60), *counts)
            for key_id, (minute, counts) in batch.entries.items()
            for tier in TIERS
        )
        async with self._database.connection("usage was not stored") as connection:
            async with connection.transaction():
                if not await connection.fetchval(_NEW, batch.writer, batch.number):
                    return
                await connection.execute(_ADD, *zip(*rows, strict=True))
            if batch.number % _PRUNE_BATCHES == 1:
                # Apart: if this fails, the batch is sent again and recognised.
                await connection.execute(_FORGET)
                newest = max(minute for minute, _ in batch.entries.values())
                for tier in TIERS:
                    oldest = tier.index(newest * 60 - tier.kept)
                    await connection.execute(_PRUNE, tier.unit, oldest)

    async def read(self, key_id: str, tier: Tier, first: int, last: int) -> Mapping[int, Counts]:
        async with self._database.connection("usage cannot be read") as connection:
            rows = await connection.fetch(_READ, key_id, tier.unit, first, last)
        return {unit: tuple(counts) for unit, *counts in rows}

    async def totals(
        self, key_ids: Sequence[str], tier: Tier, first: int, last: int
    ) -> Mapping[str, Counts]:
        async with self._database.connection("usage cannot be read") as connection:
            rows = await connection.fetch(_TOTALS, list(key_ids), tier.unit, first, last)
        return {key_id: tuple(counts) for key_id, *counts in rows}

    async def close(self) -> None:
        """Close the connections; no call may follow."""
        await self._database.close()
