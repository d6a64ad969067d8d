"""Provisioning keys in SQLite, in a file of their own: any process may change them.

Every call is a short transaction on the caller's thread; keys are few and
their pages stay in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import msgspec

from gateway.errors import Conflict
from gateway.keys import lifecycle
from gateway.keys.key import Key
from gateway.keys.role import Role
from gateway.store.sqlite import open_writer, unavailable

_DECODER = msgspec.json.Decoder(Key)
_ROLE = msgspec.json.Decoder(Role)
_ENCODER = msgspec.json.Encoder()
_NEXT = "(SELECT COALESCE(MAX(revision), 0) + 1 FROM key)"


class SqliteKeys:
    """`KeyStore` in one SQLite file."""

    def __init__(self, path: Path) -> None:
        self._connection = open_writer(path, "sqlite_keys")
        # A transaction that reads first and then writes must not find another in between.
        self._connection.transaction_mode = "IMMEDIATE"

    async def create(self, key: Key) -> None:
        try:
            self._connection.execute(
                f"INSERT INTO key VALUES (?, ?, ?, {_NEXT})",
                (key.id, key.digest, _document(key)),
            )
        except apsw.ConstraintError:
            raise Conflict(f"there is a key {key.id} already") from None
        except apsw.Error as error:
            raise unavailable(error, "the key was not stored") from error

    async def get(self, key_id: str) -> Key | None:
        keys = self._select("WHERE id = ?", key_id)
        return keys[0] if keys else None

    async def all(self) -> list[Key]:
        return sorted(self._select(""), key=lambda key: (key.created_at, key.id))

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
                        f"UPDATE key SET document = ?, revision = {_NEXT} WHERE id = ?",
                        (_document(changed), key_id),
                    )
                if create is not None:
                    await self.create(create)
        except apsw.Error as error:
            raise unavailable(error, "the key was not changed") from error
        return await self.get(key_id)

    async def put_role(self, role: Role) -> None:
        self._change_roles(
            "INSERT OR REPLACE INTO role VALUES (?, ?)", role.name, _ENCODER.encode(role)
        )

    async def delete_role(self, name: str) -> bool:
        return self._change_roles("DELETE FROM role WHERE name = ?", name)

    async def roles(self) -> dict[str, Role]:
        rows: list[Any] = self._connection.execute("SELECT document FROM role").fetchall()
        roles = [_ROLE.decode(document) for (document,) in rows]
        return {role.name: role for role in roles}

    async def roles_version(self) -> int:
        row: Any = self._connection.execute("SELECT version FROM role_version").fetchone()
        return int(row[0])

    def _change_roles(self, sql: str, *bound: str | bytes) -> bool:
        try:
            with self._connection:
                self._connection.execute(sql, bound)
                changed = self._connection.changes() > 0
                if changed:
                    self._connection.execute("UPDATE role_version SET version = version + 1")
        except apsw.Error as error:
            raise unavailable(error, "the role was not changed") from error
        return changed

    async def newest_revision(self) -> int:
        row: Any = self._connection.execute("SELECT max(revision) FROM key").fetchone()
        return row[0] or 0

    async def changed_since(self, revision: int) -> tuple[int, list[Key]]:
        keys = self._select("WHERE revision > ? ORDER BY revision", revision)
        return (keys[-1].revision if keys else revision), keys

    async def close(self) -> None:
        self._connection.close()

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
