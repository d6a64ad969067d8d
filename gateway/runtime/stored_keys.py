"""Stored documents of keys and roles, read without changing the store.

For checks before an upgrade: nothing is migrated, and no running gateway disturbed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

from gateway.adapters.postgres.database import Database
from gateway.adapters.sqlite.database import open_reader, unavailable

_KEYS = "SELECT id, document FROM key ORDER BY id"
_ROLES = "SELECT name, document FROM role ORDER BY name"

Documents = tuple[dict[str, bytes], dict[str, bytes]]


def read_sqlite(path: Path) -> Documents:
    """Documents of keys by id, and of roles by name."""
    try:
        connection = open_reader(path)
        try:
            keys: Any = connection.execute(_KEYS).fetchall()
            roles: Any = connection.execute(_ROLES).fetchall()
        finally:
            connection.close()
    except apsw.Error as error:
        raise unavailable(error, "the keys cannot be read") from error
    return dict(keys), {name: document for name, document in roles if document}


async def read_postgres(url: str) -> Documents:
    """Documents of keys by id, and of roles by name."""
    database = Database(url, 1)
    try:
        async with database.connection("the keys cannot be read") as connection:
            keys = await connection.fetch(_KEYS)
            roles = await connection.fetch(_ROLES)
    finally:
        await database.close()
    return (
        {row["id"]: row["document"] for row in keys},
        {row["name"]: row["document"] for row in roles if row["document"]},
    )
