"""`Ledger` in one SQLite file: usage of a gateway that runs alone, kept over restarts.

Durability: usage that `add` has stored survives the death of process and machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import apsw

from gateway.access.usage.meter import UsageBatch
from gateway.access.usage.windows import COUNTERS, TIERS, Counts, Tier
from gateway.adapters.files.same_file import SameFile
from gateway.adapters.sqlite.database import open_writer, writing
from gateway.adapters.sqlite.thread import SqliteThreads
from gateway.errors import Unavailable

_COLUMNS = ", ".join(COUNTERS)
_SUMS = ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTERS)
_ADD = (
    f"INSERT INTO usage (key_id, tier, unit, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
    f"ON CONFLICT (key_id, tier, unit) DO UPDATE SET {_SUMS}"
)
_READ = f"SELECT unit, {_COLUMNS} FROM usage WHERE key_id = ? AND tier = ? AND unit BETWEEN ? AND ?"
_TOTALS = (
    f"SELECT key_id, {', '.join(f'sum({name})' for name in COUNTERS)} FROM usage WHERE key_id IN "
    "(SELECT value FROM json_each(?)) AND tier = ? AND unit BETWEEN ? AND ? GROUP BY key_id"
)
_TAKEN = "SELECT 1 FROM writer WHERE id = ? AND number >= ?"
_REMEMBER = (
    "INSERT INTO writer VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET number = excluded.number"
)
_PRUNE_BATCHES = 1000
T = TypeVar("T")


class SqliteLedger:
    """Usage in one SQLite file, accessed on a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._thread = SqliteThreads(
            "usage", lambda: open_writer(path, "sqlite_usage"), file=SameFile(path)
        )
        try:
            self._thread.run_now(lambda connection: None)
        except BaseException:
            self._thread.close()
            raise

    async def add(self, batch: UsageBatch) -> None:
        await self._run(lambda connection: _add_batch(connection, batch))

    async def read(self, key_id: str, tier: Tier, first: int, last: int) -> Mapping[int, Counts]:
        return await self._run(lambda connection: _read(connection, key_id, tier, first, last))

    async def totals(
        self, key_ids: Sequence[str], tier: Tier, first: int, last: int
    ) -> Mapping[str, Counts]:
        bound = (json.dumps(list(key_ids)), tier.unit, first, last)
        return await self._run(lambda connection: _totals(connection, bound))

    async def close(self) -> None:
        """Close the file; no call may follow."""
        self._thread.close()

    async def _run(self, work: Callable[[apsw.Connection], T]) -> T:
        try:
            return await self._thread.run(work)
        except apsw.Error as error:
            raise Unavailable(f"usage: {error}", code="usage_unavailable") from error


def _add_batch(connection: apsw.Connection, batch: UsageBatch) -> None:
    with writing(connection):
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
            _prune(connection, batch.writer, newest)


def _prune(connection: apsw.Connection, writer: str, minute: int) -> None:
    connection.execute("DELETE FROM writer WHERE id <> ?", (writer,))
    for tier in TIERS:
        oldest = tier.index(minute * 60 - tier.kept)
        connection.execute("DELETE FROM usage WHERE tier = ? AND unit < ?", (tier.unit, oldest))


def _read(
    connection: apsw.Connection, key_id: str, tier: Tier, first: int, last: int
) -> dict[int, Counts]:
    rows = connection.execute(_READ, (key_id, tier.unit, first, last))
    return {int(unit): tuple(map(int, counts)) for unit, *counts in rows}


def _totals(connection: apsw.Connection, bound: tuple[str, str, int, int]) -> dict[str, Counts]:
    rows = connection.execute(_TOTALS, bound)
    return {str(key_id): tuple(map(int, counts)) for key_id, *counts in rows}
