"""`Consumers` in one SQLite file of the data folder, which any process may change."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import apsw
from msgspec import structs

from gateway.adapters.files.same_file import SameFile
from gateway.adapters.sqlite.database import open_writer, writing
from gateway.adapters.sqlite.thread import SqliteThreads
from gateway.histogram import Histogram
from gateway.streaming.consumers.ports import RowChange
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow, Move, moved

_NAMES = ConsumerRow.__struct_fields__
_COLUMNS = ", ".join(_NAMES)
_SELECT = f"SELECT {_COLUMNS} FROM consumer"
_PUT = f"INSERT OR REPLACE INTO consumer ({_COLUMNS}) VALUES ({', '.join('?' * len(_NAMES))})"
_ONE = "WHERE owner = ? AND name = ?"
_UNREADABLE = "the consumers cannot be read"
_UNCHANGED = "the position of the consumer was not stored"


class SqliteConsumers:
    """Positions of readers in one SQLite file, used on a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.commit_seconds = Histogram()
        self._thread = SqliteThreads(
            "consumers", lambda: open_writer(path, "sqlite_consumers"), file=SameFile(path)
        )
        try:
            self._thread.run_now(lambda connection: None)
        except BaseException:
            self._thread.close()
            raise

    async def get(self, owner: str, name: str) -> ConsumerRow | None:
        key = ConsumerKey(owner, name)
        return await self._thread.use(partial(_get, key=key), _UNREADABLE)

    async def all(self, owner: str | None = None) -> list[ConsumerRow]:
        def work(connection: apsw.Connection) -> list[ConsumerRow]:
            if owner is None:
                return _read(connection, "ORDER BY owner, name")
            return _read(connection, "WHERE owner = ? ORDER BY name", owner)

        return await self._thread.use(work, _UNREADABLE)

    async def change(self, owner: str, name: str, change: RowChange) -> ConsumerRow | None:
        def work(connection: apsw.Connection) -> ConsumerRow | None:
            began = time.perf_counter()
            with writing(connection):
                row = _get(connection, ConsumerKey(owner, name))
                [(others,)] = connection.execute(
                    "SELECT count(*) FROM consumer WHERE owner = ? AND name <> ?", (owner, name)
                )
                after = change(row, int(str(others)))
                if after is row:
                    return row
                if after is None:
                    connection.execute(f"DELETE FROM consumer {_ONE}", (owner, name))
                else:
                    connection.execute(_PUT, structs.astuple(after))
            self.commit_seconds.observe(time.perf_counter() - began)
            return after

        return await self._thread.use(work, _UNCHANGED)

    async def commit(
        self, moves: Mapping[ConsumerKey, Move], watched: Collection[ConsumerKey] = ()
    ) -> dict[ConsumerKey, ConsumerRow]:
        def work(connection: apsw.Connection) -> dict[ConsumerKey, ConsumerRow]:
            if not moves:
                return _rows(connection, watched)
            began = time.perf_counter()
            with writing(connection):
                rows = _rows(connection, dict.fromkeys([*moves, *watched]))
                changed = [
                    after
                    for key, move in moves.items()
                    if key in rows and (after := moved(rows[key], move)) is not rows[key]
                ]
                connection.executemany(_PUT, map(structs.astuple, changed))
            if changed:
                self.commit_seconds.observe(time.perf_counter() - began)
            return {**rows, **{row.key: row for row in changed}}

        return await self._thread.use(work, _UNCHANGED)

    async def close(self) -> None:
        self._thread.close()


def _read(connection: apsw.Connection, condition: str, *bound: str) -> list[ConsumerRow]:
    rows: Iterable[Any] = connection.execute(f"{_SELECT} {condition}", bound)
    return [ConsumerRow(**dict(zip(_NAMES, row, strict=True))) for row in rows]


def _get(connection: apsw.Connection, key: ConsumerKey) -> ConsumerRow | None:
    rows = _read(connection, _ONE, *key)
    return rows[0] if rows else None


def _rows(
    connection: apsw.Connection, keys: Iterable[ConsumerKey]
) -> dict[ConsumerKey, ConsumerRow]:
    found = ((key, _get(connection, key)) for key in keys)
    return {key: row for key, row in found if row is not None}
