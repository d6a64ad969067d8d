"""Provisioning keys in SQLite, in a file of their own that any process may change.

Every call is a short transaction on a thread of the file, since another process may hold its lock.
Reads never wait for writes; reads for live streams have a thread of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import msgspec
import orjson

from gateway.access.grants.role import Role
from gateway.access.keys import lifecycle
from gateway.access.keys.change import Change
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import PART_KEYS, DecidingTogether, Noting, RoleCheck, allow_any
from gateway.access.keys.operator import Actor
from gateway.access.keys.unreadable import check_readable, read_change, read_role
from gateway.adapters.files.same_file import SameFile
from gateway.adapters.sqlite.database import (
    empty_write_ahead_log,
    open_reader,
    open_secret_writer,
    unavailable,
    writing,
)
from gateway.adapters.sqlite.provisioning import key_rows
from gateway.adapters.sqlite.thread import SqliteThreads
from gateway.histogram import Histogram

_ENCODER = msgspec.json.Encoder()
_UNREADABLE = "the keys cannot be read"
_UNREADABLE_ROLES = "the roles cannot be read"
_UNREADABLE_NOTES = "the notes cannot be read"
_SOME = "WHERE id IN (SELECT value FROM json_each(?))"
_NEXT = "(SELECT COALESCE(MAX(revision), 0) + 1 FROM key)"


class SqliteKeys:
    """`KeyStore` in one SQLite file.

    Raises `GatewayError` if the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._threads: list[SqliteThreads] = []
        self._file = SameFile(path)
        self.commit_seconds, self.read_seconds = Histogram(), Histogram()
        reader = partial(open_reader, path)
        try:
            # The first to open brings the schema up to date.
            self._changing = self._thread(
                "keys", lambda: open_secret_writer(path, "sqlite_keys"), self.commit_seconds
            )
            # Not timed, as notes are written without sync.
            self._noting = self._thread("key-notes", lambda: _open_notes(path))
            self._reading = self._thread("key-reader", reader, self.read_seconds)
            self._watching = self._thread("key-watch", reader, self.read_seconds)
        except apsw.Error as error:
            self._close()
            raise unavailable(error, f"{path} cannot be opened") from error
        except BaseException:
            self._close()
            raise

    async def create(self, key: Key) -> None:
        def work(connection: apsw.Connection) -> None:
            with writing(connection):
                key_rows.insert(connection, key)

        await self._changing.use(work, "the key was not stored")

    async def create_first(self, key: Key) -> bool:
        def work(connection: apsw.Connection) -> bool:
            with writing(connection):
                if connection.execute("SELECT 1 FROM key LIMIT 1").fetchone():
                    return False
                key_rows.insert(connection, key)
            return True

        return await self._changing.use(work, "the key was not stored")

    async def get(self, key_id: str) -> Key | None:
        return await self._reading.use(
            lambda connection: key_rows.get(connection, key_id), _UNREADABLE
        )

    async def all(self) -> list[Key]:
        keys = [key async for part in self.parts() for key in part]
        return sorted(keys, key=lambda key: (key.created_at, key.id))

    async def parts(self) -> AsyncIterator[list[Key]]:
        condition, last = "WHERE id > ? ORDER BY id LIMIT ?", ""
        while part := await self._select(condition, last, PART_KEYS):
            last = part[-1].id
            yield part

    async def some(self, key_ids: Sequence[str]) -> list[Key]:
        return await self._select(_SOME, orjson.dumps(list(key_ids)).decode())

    async def _select(self, condition: str, *bound: str | int) -> list[Key]:
        def work(connection: apsw.Connection) -> list[Key]:
            return key_rows.select(connection, condition, *bound)

        return await self._reading.use(work, _UNREADABLE)

    async def ids(self) -> set[str]:
        def work(connection: apsw.Connection) -> set[str]:
            found: list[Any] = connection.execute("SELECT id FROM key").fetchall()
            return {row[0] for row in found}

        return await self._watching.use(work, _UNREADABLE)

    async def change(
        self, key_id: str, change: Callable[[Key], Key], *, create: Key | None = None
    ) -> Key | None:
        def work(connection: apsw.Connection) -> Key | None:
            with writing(connection):
                key = key_rows.get(connection, key_id)
                if key is None:
                    return None
                check_readable(key)
                changed = change(key)
                if changed is not key:
                    key_rows.update(connection, changed, key)
                if create is not None:
                    key_rows.insert(connection, create)
            return key_rows.get(connection, key_id)

        return await self._changing.use(work, "the key was not changed")

    async def change_many(
        self,
        change: Callable[[list[Key]], Sequence[Key]],
        *,
        among: Sequence[str] | None = None,
    ) -> list[Key]:
        ids = () if among is None else (orjson.dumps(list(among)).decode(),)

        def work(connection: apsw.Connection) -> list[Key]:
            with writing(connection):
                read = key_rows.select(connection, _SOME if ids else "", *ids)
                known = {key.id: key for key in read}
                changed = change(list(known.values()))
                for key in changed:
                    if key is not known[key.id]:
                        check_readable(known[key.id])
                        key_rows.update(connection, key, known[key.id])
            found = [key_rows.get(connection, key.id) for key in changed]
            return [key for key in found if key is not None]

        return await self._changing.use(work, "the keys were not changed")

    async def change_together(
        self, decide: DecidingTogether, by: Actor = "", at: float = 0.0
    ) -> None:
        def work(connection: apsw.Connection) -> None:
            with writing(connection):
                key_rows.change_together(connection, decide, by, at)

        await self._changing.use(work, "nothing was changed")

    async def put_role(
        self, role: Role, by: Actor = "", at: float = 0.0, *, check: RoleCheck = allow_any
    ) -> list[str]:
        return await self._change_role(role.name, role, by, at, check) or []

    async def delete_role(
        self, name: str, by: Actor = "", at: float = 0.0, *, check: RoleCheck = allow_any
    ) -> list[str] | None:
        return await self._change_role(name, None, by, at, check)

    async def roles(self) -> dict[str, Role]:
        _, roles = await self.roles_since(-1)
        return {name: role for name, role in roles.items() if role is not None}

    async def roles_since(self, version: int) -> tuple[int, dict[str, Role | None]]:
        def work(connection: apsw.Connection) -> tuple[int, dict[str, Role | None]]:
            # One transaction, so that both are of one moment.
            with connection:
                row: Any = connection.execute("SELECT version FROM role_version").fetchone()
                newest = row[0]
                found: list[Any] = (
                    connection.execute(
                        "SELECT name, document FROM role WHERE version > ?", (version,)
                    ).fetchall()
                    if newest != version
                    else []
                )
            return newest, {
                name: read_role(name, document) if document else None for name, document in found
            }

        return await self._watching.use(work, _UNREADABLE_ROLES)

    async def newest_revision(self) -> int:
        return await self._watching.use(_newest_revision, _UNREADABLE)

    async def changed_since(self, revision: int) -> tuple[int, list[Key]]:
        def work(connection: apsw.Connection) -> tuple[int, list[Key]]:
            with connection:
                keys = key_rows.select(connection, "WHERE revision > ? ORDER BY revision", revision)
                newest = keys[-1].revision if keys else _newest_revision(connection)
            return newest, keys

        return await self._watching.use(work, _UNREADABLE)

    async def record_later(self, change: Change) -> None:
        def work(connection: apsw.Connection) -> None:
            with writing(connection):
                key_rows.keep(connection, change)

        await self._changing.use(work, "the change was not kept")

    async def unrecorded(self, limit: int) -> dict[int, Change]:
        def work(connection: apsw.Connection) -> dict[int, Change]:
            found: list[Any] = connection.execute(
                "SELECT number, document FROM change ORDER BY number LIMIT ?", (limit,)
            ).fetchall()
            return {number: read_change(document) for number, document in found}

        return await self._reading.use(work, "the changes cannot be read")

    async def mark_recorded(self, numbers: Sequence[int]) -> None:
        def work(connection: apsw.Connection) -> None:
            with writing(connection):
                connection.executemany(
                    "DELETE FROM change WHERE number = ?", [(number,) for number in numbers]
                )

        await self._changing.use(work, "the changes were not marked")

    async def note(self, kind: str, name: str) -> bytes | None:
        return await self._reading.use(
            lambda connection: _note(connection, kind, name), _UNREADABLE_NOTES
        )

    async def watched_note(self, kind: str, name: str) -> bytes | None:
        return await self._watching.use(
            lambda connection: _note(connection, kind, name), _UNREADABLE_NOTES
        )

    async def notes(self, kind: str, after: str = "", most: int | None = None) -> dict[str, bytes]:
        def work(connection: apsw.Connection) -> dict[str, bytes]:
            found: list[Any] = connection.execute(
                "SELECT name, document FROM note WHERE kind = ? AND name > ? ORDER BY name LIMIT ?",
                (kind, after, -1 if most is None else most),
            ).fetchall()
            return dict(found)

        return await self._reading.use(work, _UNREADABLE_NOTES)

    async def update_notes(
        self, kind: str, updates: Mapping[str, Noting], *, erases: bool = False
    ) -> None:
        def work(connection: apsw.Connection) -> None:
            with writing(connection):
                for name, noting in updates.items():
                    made = noting(_note(connection, kind, name))
                    if made is None:
                        sql, bound = "DELETE FROM note WHERE kind = ? AND name = ?", (kind, name)
                        connection.execute(sql, bound)
                    else:
                        sql = "INSERT OR REPLACE INTO note VALUES (?, ?, ?)"
                        connection.execute(sql, (kind, name, made))
            if erases:
                empty_write_ahead_log(connection)

        await self._noting.use(work, "the notes were not kept")

    async def wall_time(self) -> float | None:
        return None

    async def close(self) -> None:
        self._close()

    def _thread(
        self,
        name: str,
        open_connection: Callable[[], apsw.Connection],
        seconds: Histogram | None = None,
    ) -> SqliteThreads:
        thread = SqliteThreads(name, open_connection, file=self._file, seconds=seconds)
        self._threads.append(thread)
        thread.run_now(lambda connection: None)
        return thread

    def _close(self) -> None:
        # A reader cannot checkpoint the write-ahead log, so it must not be the last to close.
        for thread in reversed(self._threads):
            thread.close()

    async def _change_role(
        self, name: str, role: Role | None, by: Actor, at: float, check: RoleCheck
    ) -> list[str] | None:
        def work(connection: apsw.Connection) -> list[str] | None:
            with writing(connection):
                known = key_rows.role_document(connection, name)
                if known:
                    check_readable(read_role(name, known))
                elif role is None:
                    return None
                # Only keys with the role are decoded.
                named = key_rows.select(
                    connection, "WHERE instr(document, ?)", b'"%b"' % name.encode()
                )
                having = [key for key in named if name in key.roles]
                check(key_rows.roles(connection), having)
                losing = [] if role is not None and known else having
                for key in losing:
                    key_rows.update(connection, lifecycle.without_role(key, name, at, by), key)
                ids = [key.id for key in losing]
                key_rows.put_role(connection, name, role, by, at, ids)
            return ids

        return await self._changing.use(work, "the role was not changed")


# Functions on the threads, each with its connection


def _open_notes(path: Path) -> apsw.Connection:
    """Connection without sync: notes are frequent, and a crash of the machine may lose them."""
    connection = open_secret_writer(path, "sqlite_keys")
    connection.pragma("synchronous", "normal")
    return connection


def _newest_revision(connection: apsw.Connection) -> int:
    row: Any = connection.execute("SELECT max(revision) FROM key").fetchone()
    return row[0] or 0


def _note(connection: apsw.Connection, kind: str, name: str) -> bytes | None:
    row: Any = connection.execute(
        "SELECT document FROM note WHERE kind = ? AND name = ?", (kind, name)
    ).fetchone()
    return row[0] if row else None
