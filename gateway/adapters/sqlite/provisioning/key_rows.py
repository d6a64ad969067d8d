"""Rows of keys and roles, and their records, within the transactions of a connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from gateway.access.grants.role import BUILTIN, Role
from gateway.access.keys.change import Change, key_change, role_change
from gateway.access.keys.descent import check_new_key
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import DecidingTogether
from gateway.access.keys.operator import Actor
from gateway.access.keys.stored_grant import encode_key, encode_role
from gateway.access.keys.unreadable import check_readable, read_key, read_role
from gateway.errors import Conflict

_ENCODER = msgspec.json.Encoder()
_NEXT = "(SELECT COALESCE(MAX(revision), 0) + 1 FROM key)"


def update(connection: apsw.Connection, key: Key, before: Key) -> None:
    """Store a changed key, and record that."""
    connection.execute(
        f"UPDATE key SET document = ?, digest = ?, revision = {_NEXT} WHERE id = ?",
        (encode_key(key), key.digest, key.id),
    )
    keep_change(connection, key.id, before)


def roles(connection: apsw.Connection) -> dict[str, Role]:
    """All stored roles, by name."""
    rows: list[Any] = connection.execute("SELECT name, document FROM role").fetchall()
    return {name: read_role(name, document) for name, document in rows if document}


def role_document(connection: apsw.Connection, name: str) -> bytes:
    """Document of a role; empty if there is no such role."""
    row: Any = connection.execute("SELECT document FROM role WHERE name = ?", (name,)).fetchone()
    return row[0] if row else b""


def insert(connection: apsw.Connection, key: Key) -> None:
    """Add a key, and record that."""
    roles = (name for name in key.roles if name not in BUILTIN)
    missing = [name for name in roles if not role_document(connection, name)]
    check_new_key(key, missing, get(connection, key.created_by))
    try:
        connection.execute(
            f"INSERT INTO key VALUES (?, ?, ?, {_NEXT})", (key.id, key.digest, encode_key(key))
        )
    except apsw.ConstraintError:
        raise Conflict(f"there is a key {key.id} already") from None
    keep_change(connection, key.id)


def keep_change(connection: apsw.Connection, key_id: str, before: Key | None = None) -> None:
    """Record the new state of a key, within the transaction that changed it."""
    [key] = select(connection, "WHERE id = ?", key_id)
    keep(connection, key_change(key, before))


def keep(connection: apsw.Connection, change: Change) -> None:
    """Keep a change until it is recorded."""
    connection.execute("INSERT INTO change (document) VALUES (?)", (_ENCODER.encode(change),))


def put_role(
    connection: apsw.Connection,
    name: str,
    role: Role | None,
    by: Actor,
    at: float,
    losing: Sequence[str],
) -> None:
    """Add, replace or delete (None) a role, and record that; `losing` are ids of keys that lose
    it."""
    row: Any = connection.execute(
        "UPDATE role_version SET version = version + 1 RETURNING version"
    ).fetchone()
    document = b"" if role is None else encode_role(role)
    connection.execute("INSERT OR REPLACE INTO role VALUES (?, ?, ?)", (name, document, row[0]))
    keep(connection, role_change(name, row[0], role, by, at=at, keys=losing))


def change_together(
    connection: apsw.Connection, decide: DecidingTogether, by: Actor, at: float
) -> None:
    """Make the changes that are decided on by all roles and keys, within a transaction."""
    known = {key.id: key for key in select(connection, "")}
    had = roles(connection)
    changes = decide(had, list(known.values()))
    for role in changes.roles:
        if role.name in had:
            check_readable(had[role.name])
        put_role(connection, role.name, role, by, at, ())
    for key in changes.replaced:
        check_readable(known[key.id])
        update(connection, key, known[key.id])
    for key in changes.added:
        insert(connection, key)
    for name, losing in changes.deleted_roles.items():
        put_role(connection, name, None, by, at, losing)
    for record in changes.records:
        keep(connection, record)


def get(connection: apsw.Connection, key_id: str) -> Key | None:
    """One key."""
    keys = select(connection, "WHERE id = ?", key_id)
    return keys[0] if keys else None


def select(connection: apsw.Connection, condition: str, *bound: str | int | bytes) -> list[Key]:
    """Keys under a condition."""
    rows: list[Any] = connection.execute(
        f"SELECT id, document, digest, revision FROM key {condition}", bound
    ).fetchall()
    return [read_key(*row) for row in rows]
