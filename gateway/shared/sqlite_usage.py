"""`Ledger` in one SQLite file: usage of a gateway that runs alone, kept over restarts.

Durability: what `add` has returned for survives the death of process and machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import apsw

from gateway.errors import Unavailable
from gateway.shared.meter import Batch
from gateway.shared.windows import COUNTERS, TIERS, Counts, Tier
from gateway.store.sqlite import open_writer

_COLUMNS = ", ".join(COUNTERS)
_SUMS = ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTERS)
_ADD = (
    f"INSERT INTO usage (key_id, tier, unit, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
    f"ON CONFLICT (key_id, tier, unit) DO UPDATE SET {_SUMS}"
)
_READ = f"SELECT unit, {_COLUMNS} FROM usage WHERE key_id = ? AND tier = ? AND unit BETWEEN ? AND ?"
_TAKEN = "SELECT 1 FROM writer WHERE id = ? AND number >= ?"
_REMEMBER = (
    "INSERT INTO writer VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET number = excluded.number"
)
_PRUNE_BATCHES = 1000
T = TypeVar("T")


class SqliteLedger:
    """Usage in a file. A thread waits for the disk, the event loop never does."""

    def __init__(self, path: Path) -> None:
        self._connection = open_writer(path, "sqlite_usage")
        self._connection.transaction_mode = "IMMEDIATE"
        self._one_at_a_time = asyncio.Lock()

    async def add(self, batch: Batch) -> None:
        await self._in_thread(lambda: self._add(batch))

    async def read(self, key_id: str, tier: Tier, first: int, last: int) -> Mapping[int, Counts]:
        return await self._in_thread(lambda: self._read(key_id, tier, first, last))

    async def close(self) -> None:
        """Nothing may be called afterwards."""
        async with self._one_at_a_time:
            self._connection.close()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        async with self._one_at_a_time:
            working = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                return await asyncio.shield(working)
            except asyncio.CancelledError:
                # The thread goes on; nobody else may use the connection before it is done.
                await asyncio.wait({working})
                raise
            except apsw.Error as error:
                raise Unavailable(f"usage: {error}", code="usage_unavailable") from error

    def _add(self, batch: Batch) -> None:
        with self._connection as connection:
            if connection.execute(_TAKEN, (batch.writer, batch.number)).fetchall():
                return
            connection.execute(_REMEMBER, (batch.writer, batch.number))
            newest = 0
            for key_id, (minute, counts) in batch.entries.items():
                newest = max(newest, minute)
                for tier in TIERS:
                    unit = tier.index(minute * 60)
                    connection.execute(_ADD, (key_id, tier.unit, unit, *counts))
            if batch.number % _PRUNE_BATCHES == 1:
                self._prune(batch.writer, newest)

    def _prune(self, writer: str, minute: int) -> None:
        self._connection.execute("DELETE FROM writer WHERE id <> ?", (writer,))
        for tier in TIERS:
            oldest = tier.index(minute * 60 - tier.kept)
            self._connection.execute(
                "DELETE FROM usage WHERE tier = ? AND unit < ?", (tier.unit, oldest)
            )

    def _read(self, key_id: str, tier: Tier, first: int, last: int) -> dict[int, Counts]:
        rows = self._connection.execute(_READ, (key_id, tier.unit, first, last))
        return {int(unit): tuple(map(int, counts)) for unit, *counts in rows}
