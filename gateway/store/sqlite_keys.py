"""Provisioning keys in SQLite, in a file of their own: any process may change them.

Every call is a short transaction on the caller's thread; keys are few and
their pages stay in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec

from gateway.errors import Conflict
from gateway.keys import lifecycle
from gateway.keys.change import Change, key_change, role_change
from gateway.keys.key import Key
from gateway.keys.role import Role
from gateway.store.ports import Noting
from gateway.store.sqlite import open_writer, unavailable

_DECODER = msgspec.json.Decoder(Key)
_CHANGE = msgspec.json.Decoder(Change)
_ROLE = msgspec.json.Decoder(Role)
_ENCODER = msgspec.json.Encoder()
_NEXT = "(SELECT COALESCE(MAX(revision), 0) + 1 FROM key)"


class SqliteKeys:
    """`KeyStore` in one SQLite file."""

    def __init__(self, path: Path) -> None:
        self._connection = open_writer(path, "sqlite_keys")
        # A transaction that reads first and then writes must not find another in between.
        self._connection.transaction_mode = "IMMEDIATE"
        # Notes come often and may be lost with the machine: their commits need no sync to disk.
        self._notes = open_writer(path, "sqlite_keys")
        self._notes.transaction_mode = "IMMEDIATE"
        self._notes.pragma("synchronous", "normal")

    async def create(self, key: Key) -> None:
        try:
            with self._connection:
                self._connection.execute(
                    f"INSERT INTO key VALUES (?, ?, ?, {_NEXT})",
                    (key.id, key.digest, _document(key)),
                )
                self._keep_change(key.id)
        except apsw.ConstraintError:
            raise Conflict(f"there is a key {key.id} already") from None
        except apsw.Error as error:
            raise unavailable(error, "the key was not stored") from error

    async def create_first(self, key: Key) -> bool:
        try:
            with self._connection:
                if self._connection.execute("SELECT 1 FROM key LIMIT 1").fetchone():
                    return False
                await self.create(key)
        except apsw.Error as error:
            raise unavailable(error, "the key was not stored") from error
        return True

    async def get(self, key_id: str) -> Key | None:
        keys = self._select("WHERE id = ?", key_id)
        return keys[0] if keys else None

    async def all(self) -> list[Key]:
        return sorted(self._select(""), key=lambda key: (key.created_at, key.id))

    async def ids(self) -> set[str]:
        try:
            rows: list[Any] = self._connection.execute("SELECT id FROM key").fetchall()
        except apsw.Error as error:
            raise unavailable(error, "the keys cannot be read") from error
        return {row[0] for row in rows}

    async def revoke(self, key_id: str, at: float, reason: str) -> Key | None:
        return await self.change(key_id, lambda key: lifecycle.revoke(key, at, reason))

    async def change(
        self, key_id: str, change: Callable[[Key], Key], *, create: Key | None = None
    ) -> Key | None:
        try:
            with self._connection:
                key = await self.get(key_id)
                if key is None:
                    return None
                changed = change(key)
                if changed is not key:
                    self._connection.execute(
                        f"UPDATE key SET document = ?, digest = ?, revision = {_NEXT} WHERE id = ?",
                        (_document(changed), changed.digest, key_id),
                    )
                    self._keep_change(key_id)
                if create is not None:
                    await self.create(create)
        except apsw.Error as error:
            raise unavailable(error, "the key was not changed") from error
        return await self.get(key_id)

    async def put_role(self, role: Role, by: str = "") -> None:
        self._change_role(role.name, role, by)

    async def delete_role(self, name: str, by: str = "") -> bool:
        return self._change_role(name, None, by)

    async def roles(self) -> dict[str, Role]:
        _, roles = await self.roles_since(-1)
        return {name: role for name, role in roles.items() if role is not None}

    async def roles_since(self, version: int) -> tuple[int, dict[str, Role | None]]:
        try:
            row: Any = self._connection.execute("SELECT version FROM role_version").fetchone()
            if row[0] == version:
                return version, {}
            rows: list[Any] = self._connection.execute(
                "SELECT name, document FROM role WHERE version > ?", (version,)
            ).fetchall()
        except apsw.Error as error:
            raise unavailable(error, "the roles cannot be read") from error
        return row[0], {
            name: _ROLE.decode(document) if document else None for name, document in rows
        }

    def _change_role(self, name: str, role: Role | None, by: str) -> bool:
        try:
            with self._connection:
                known: Any = self._connection.execute(
                    "SELECT document <> x'' FROM role WHERE name = ?", (name,)
                ).fetchone()
                if role is None and not (known and known[0]):
                    return False
                row: Any = self._connection.execute(
                    "UPDATE role_version SET version = version + 1 RETURNING version"
                ).fetchone()
                document = b"" if role is None else _ENCODER.encode(role)
                self._connection.execute(
                    "INSERT OR REPLACE INTO role VALUES (?, ?, ?)", (name, document, row[0])
                )
                self._keep(role_change(name, row[0], role, by))
        except apsw.Error as error:
            raise unavailable(error, "the role was not changed") from error
        return True

    async def newest_revision(self) -> int:
        try:
            row: Any = self._connection.execute("SELECT max(revision) FROM key").fetchone()
        except apsw.Error as error:
            raise unavailable(error, "the keys cannot be read") from error
        return row[0] or 0

    async def changed_since(self, revision: int) -> tuple[int, list[Key]]:
        keys = self._select("WHERE revision > ? ORDER BY revision", revision)
        return (keys[-1].revision if keys else await self.newest_revision()), keys

    async def record_later(self, change: Change) -> None:
        try:
            with self._connection:
                self._keep(change)
        except apsw.Error as error:
            raise unavailable(error, "the change was not kept") from error

    async def unrecorded(self, limit: int) -> dict[int, Change]:
        try:
            rows: list[Any] = self._connection.execute(
                "SELECT number, document FROM change ORDER BY number LIMIT ?", (limit,)
            ).fetchall()
        except apsw.Error as error:
            raise unavailable(error, "the changes cannot be read") from error
        return {number: _CHANGE.decode(document) for number, document in rows}

    async def mark_recorded(self, numbers: Sequence[int]) -> None:
        try:
            with self._connection:
                self._connection.executemany(
                    "DELETE FROM change WHERE number = ?", [(number,) for number in numbers]
                )
        except apsw.Error as error:
            raise unavailable(error, "the changes were not marked") from error

    async def note(self, kind: str, name: str) -> bytes | None:
        try:
            return self._note(kind, name)
        except apsw.Error as error:
            raise unavailable(error, "the notes cannot be read") from error

    async def notes(self, kind: str) -> dict[str, bytes]:
        try:
            rows: list[Any] = self._notes.execute(
                "SELECT name, document FROM note WHERE kind = ?", (kind,)
            ).fetchall()
        except apsw.Error as error:
            raise unavailable(error, "the notes cannot be read") from error
        return dict(rows)

    async def update_notes(self, kind: str, updates: Mapping[str, Noting]) -> None:
        try:
            with self._notes:
                for name, noting in updates.items():
                    made = noting(self._note(kind, name))
                    if made is None:
                        sql, bound = "DELETE FROM note WHERE kind = ? AND name = ?", (kind, name)
                        self._notes.execute(sql, bound)
                    else:
                        sql = "INSERT OR REPLACE INTO note VALUES (?, ?, ?)"
                        self._notes.execute(sql, (kind, name, made))
        except apsw.Error as error:
            raise unavailable(error, "the notes were not kept") from error

    async def close(self) -> None:
        self._connection.close()
        self._notes.close()

    def _note(self, kind: str, name: str) -> bytes | None:
        row: Any = self._notes.execute(
            "SELECT document FROM note WHERE kind = ? AND name = ?", (kind, name)
        ).fetchone()
        return row[0] if row else None

    def _keep_change(self, key_id: str) -> None:
        """What has become of a key, within the transaction that changed it."""
        [key] = self._select("WHERE id = ?", key_id)
        self._keep(key_change(key))

    def _keep(self, change: Change) -> None:
        self._connection.execute(
            "INSERT INTO change (document) VALUES (?)", (_ENCODER.encode(change),)
        )

    def _select(self, condition: str, *bound: str | int) -> list[Key]:
        try:
            rows: list[Any] = self._connection.execute(
                f"SELECT document, digest, revision FROM key {condition}", bound
            ).fetchall()
        except apsw.Error as error:
            raise unavailable(error, "the keys cannot be read") from error
        return [
            msgspec.structs.replace(_DECODER.decode(document), digest=digest, revision=revision)
            for document, digest, revision in rows
        ]


def _document(key: Key) -> bytes:
    return _ENCODER.encode(msgspec.structs.replace(key, digest=b"", revision=0))
