"""Rows of keys and roles, and their records, within a transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg
import msgspec

from gateway.access.grants.role import BUILTIN, Role
from gateway.access.keys.change import Change, key_change, role_change
from gateway.access.keys.descent import check_new_key
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import KeyChanges
from gateway.access.keys.operator import Actor
from gateway.access.keys.stored_grant import encode_key, encode_role
from gateway.access.keys.unreadable import check_readable, read_key, read_role
from gateway.adapters.postgres.database import storable
from gateway.errors import Conflict

SELECT = "SELECT id, document, digest, revision FROM key"
SELECT_ROLES = "SELECT name, document FROM role WHERE document <> ''"
_ENCODER = msgspec.json.Encoder()
_NEXT = "(SELECT coalesce(max(revision), 0) + 1 FROM key)"


async def update(connection: asyncpg.Connection, key: Key, before: Key) -> Key:
    """Store the changed key; return it as stored."""
    revision: int = await connection.fetchval(
        f"UPDATE key SET document = $2, digest = $3, revision = {_NEXT} WHERE id = $1"
        " RETURNING revision",
        key.id,
        encode_key(key),
        key.digest,
    )
    changed = msgspec.structs.replace(key, revision=revision)
    await keep(connection, key_change(changed, before))
    return changed


async def role_document(connection: asyncpg.Connection, name: str) -> bytes:
    """Document of a role; empty if there is no such role."""
    select = "SELECT document FROM role WHERE name = $1"
    return await connection.fetchval(select, storable(name)) or b""


async def insert(connection: asyncpg.Connection, key: Key) -> None:
    roles = [name for name in key.roles if name not in BUILTIN]
    missing = [name for name in roles if not await role_document(connection, name)]
    row = await connection.fetchrow(f"{SELECT} WHERE id = $1", storable(key.created_by))
    check_new_key(key, missing, None if row is None else key_of(row))
    if await connection.fetchval("SELECT true FROM key WHERE id = $1", key.id):
        raise Conflict(f"there is a key {key.id} already")
    revision: int = await connection.fetchval(
        f"INSERT INTO key VALUES ($1, $2, $3, {_NEXT}) RETURNING revision",
        key.id,
        key.digest,
        encode_key(key),
    )
    await keep(connection, key_change(msgspec.structs.replace(key, revision=revision)))


async def keep(connection: asyncpg.Connection, change: Change) -> None:
    """Record a change, within the transaction that made it."""
    await connection.execute("INSERT INTO change (document) VALUES ($1)", _ENCODER.encode(change))


def stored_role_of(row: asyncpg.Record) -> tuple[str, Role]:
    """Name and role of a row that has a document."""
    return row["name"], read_role(row["name"], row["document"])


def role_of(row: asyncpg.Record) -> tuple[str, Role | None]:
    name, document = row["name"], row["document"]
    return name, read_role(name, document) if document else None


def key_of(row: asyncpg.Record) -> Key:
    return read_key(row["id"], row["document"], row["digest"], row["revision"])


async def put_role(
    connection: asyncpg.Connection,
    name: str,
    role: Role | None,
    by: Actor,
    at: float,
    losing: Sequence[str],
) -> None:
    """Add, replace or delete (None) a role, and record that; `losing` are ids of keys that lose
    it."""
    version: int = await connection.fetchval(
        "UPDATE role_version SET version = version + 1 RETURNING version"
    )
    await connection.execute(
        "INSERT INTO role VALUES ($1, $2, $3) ON CONFLICT (name)"
        " DO UPDATE SET document = excluded.document, version = excluded.version",
        name,
        b"" if role is None else encode_role(role),
        version,
    )
    await keep(connection, role_change(name, version, role, by, at=at, keys=losing))


async def store(
    connection: asyncpg.Connection,
    changes: KeyChanges,
    keys: Mapping[str, Key],
    roles: Mapping[str, Role],
    by: Actor,
    at: float,
) -> None:
    """Store several changes of these keys and roles."""
    for role in changes.roles:
        if role.name in roles:
            check_readable(roles[role.name])
        await put_role(connection, role.name, role, by, at, ())
    for key in changes.replaced:
        check_readable(keys[key.id])
        await update(connection, key, keys[key.id])
    for key in changes.added:
        await insert(connection, key)
    for name, losing in changes.deleted_roles.items():
        await put_role(connection, name, None, by, at, losing)
    for record in changes.records:
        await keep(connection, record)
