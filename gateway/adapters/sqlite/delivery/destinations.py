"""`Destinations` in one SQLite file of the data folder, which any process may change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec
from msgspec.structs import replace

from gateway.adapters.files.same_file import SameFile
from gateway.adapters.sqlite.database import empty_write_ahead_log, open_secret_writer, writing
from gateway.adapters.sqlite.thread import SqliteThreads
from gateway.delivery.destination import Destination, decode_destination, decode_destinations
from gateway.delivery.ports import DeadLetter, DestinationChange

_encode = msgspec.json.Encoder().encode
_dead_letter = msgspec.json.Decoder(DeadLetter).decode
_UNREADABLE = "the destinations cannot be read"
_UNCHANGED = "the destination was not changed"
_ONE = "SELECT document FROM destination WHERE name = ?"
_NEXT = "UPDATE destination_version SET version = version + 1 RETURNING version"
_DEAD_LETTERS = (
    "SELECT document FROM dead_letter WHERE destination = ? AND cursor > ? ORDER BY cursor LIMIT ?"
)
_COUNT = "SELECT count(*) FROM dead_letter WHERE destination = ?"
_PUT_STATUS = (
    "INSERT OR REPLACE INTO destination_status"
    " SELECT ?, ? WHERE EXISTS (SELECT 1 FROM destination WHERE name = ?)"
)


class SqliteDestinations:
    """Destinations in one SQLite file, used on a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._thread = SqliteThreads("destinations", lambda: _open(path), file=SameFile(path))
        try:
            self._thread.run_now(lambda connection: None)
        except BaseException:
            self._thread.close()
            raise

    async def version(self) -> int:
        def work(connection: apsw.Connection) -> int:
            return _number(connection, "SELECT version FROM destination_version")

        return await self._thread.use(work, _UNREADABLE)

    async def all(self) -> list[Destination]:
        def work(connection: apsw.Connection) -> list[Destination]:
            rows = _documents(connection, "SELECT document FROM destination ORDER BY name")
            return decode_destinations(rows)

        return await self._thread.use(work, _UNREADABLE)

    async def get(self, name: str) -> Destination | None:
        return await self._thread.use(lambda connection: _get(connection, name), _UNREADABLE)

    async def change(self, name: str, change: DestinationChange) -> Destination | None:
        def work(connection: apsw.Connection) -> Destination | None:
            with writing(connection):
                before = _get(connection, name)
                others = _number(
                    connection, "SELECT count(*) FROM destination WHERE name <> ?", name
                )
                after = change(before, others)
                if after is before:
                    return before
                revision = _number(connection, _NEXT)
                if after is None:
                    connection.execute("DELETE FROM destination WHERE name = ?", (name,))
                else:
                    after = replace(after, revision=revision)
                    connection.execute(
                        "INSERT INTO destination VALUES (?, ?)"
                        " ON CONFLICT (name) DO UPDATE SET document = excluded.document",
                        (name, _encode(after)),
                    )
            if before is not None and (after is None or after.secrets != before.secrets):
                # Those that it had are of no use any more.
                empty_write_ahead_log(connection)
            return after

        return await self._thread.use(work, _UNCHANGED)

    async def add_dead_letters(self, name: str, letters: Sequence[DeadLetter]) -> int:
        def work(connection: apsw.Connection) -> int:
            with writing(connection):
                if _get(connection, name) is None:
                    return 0
                connection.executemany(
                    "INSERT OR REPLACE INTO dead_letter VALUES (?, ?, ?)",
                    [(name, letter.cursor, _encode(letter)) for letter in letters],
                )
                return _number(connection, _COUNT, name)

        return await self._thread.use(work, "the dead letters were not stored")

    async def dead_letters(self, name: str, after: str, limit: int) -> list[DeadLetter]:
        def work(connection: apsw.Connection) -> list[DeadLetter]:
            rows = _documents(connection, _DEAD_LETTERS, name, after, limit)
            return [_dead_letter(document) for document in rows]

        return await self._thread.use(work, _UNREADABLE)

    async def count_dead_letters(self, name: str) -> int:
        def work(connection: apsw.Connection) -> int:
            return _number(connection, _COUNT, name)

        return await self._thread.use(work, _UNREADABLE)

    async def delete_dead_letters(self, name: str, cursors: Sequence[str] | None) -> int:
        def work(connection: apsw.Connection) -> int:
            with writing(connection):
                before = connection.total_changes()
                if cursors is None:
                    connection.execute("DELETE FROM dead_letter WHERE destination = ?", (name,))
                else:
                    connection.executemany(
                        "DELETE FROM dead_letter WHERE destination = ? AND cursor = ?",
                        [(name, cursor) for cursor in cursors],
                    )
                return connection.total_changes() - before

        return await self._thread.use(work, "the dead letters were not deleted")

    async def put_statuses(self, statuses: Mapping[str, bytes]) -> None:
        def work(connection: apsw.Connection) -> None:
            with writing(connection):
                connection.executemany(_PUT_STATUS, [(*one, one[0]) for one in statuses.items()])

        await self._thread.use(work, _UNCHANGED)

    async def status(self, name: str) -> bytes | None:
        def work(connection: apsw.Connection) -> bytes | None:
            sql = "SELECT document FROM destination_status WHERE destination = ?"
            return next(iter(_documents(connection, sql, name)), None)

        return await self._thread.use(work, _UNREADABLE)

    async def statuses(self) -> dict[str, bytes]:
        def work(connection: apsw.Connection) -> dict[str, bytes]:
            rows: Any = connection.execute("SELECT destination, document FROM destination_status")
            return dict(rows)

        return await self._thread.use(work, _UNREADABLE)

    async def close(self) -> None:
        self._thread.close()


def _open(path: Path) -> apsw.Connection:
    connection = open_secret_writer(path, "sqlite_destinations")
    connection.pragma("foreign_keys", True)
    return connection


def _documents(connection: apsw.Connection, sql: str, *bound: str | int) -> Iterable[bytes]:
    rows: Iterable[Any] = connection.execute(sql, bound)
    return [row[0] for row in rows]


def _number(connection: apsw.Connection, sql: str, *bound: str) -> int:
    [(number,)] = connection.execute(sql, bound)
    return int(str(number))


def _get(connection: apsw.Connection, name: str) -> Destination | None:
    documents = list(_documents(connection, _ONE, name))
    return decode_destination(documents[0]) if documents else None
