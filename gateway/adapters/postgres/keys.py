"""Provisioning keys in PostgreSQL, shared by all gateways on one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import asyncpg

from gateway.access.grants.role import Role
from gateway.access.keys import lifecycle
from gateway.access.keys.change import Change
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import PART_KEYS, DecidingTogether, Noting, RoleCheck, allow_any
from gateway.access.keys.operator import Actor
from gateway.access.keys.unreadable import check_readable, read_change, read_role
from gateway.adapters.postgres import key_rows
from gateway.adapters.postgres.database import SCHEMA, Database, migrate, storable
from gateway.adapters.timed import timed
from gateway.histogram import Histogram
from gateway.tasks import threads_unavailable

T = TypeVar("T")
_CONNECTIONS = 2
# Decoding time grows with the bytes; fewer take below a millisecond.
_AT_ONCE_BYTES = 16 * 1024
# Changes wait for each other, so that they become visible in the order of their revisions.
_TURN = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.key', 0))"
# A standby may lag behind; on a primary a lower number means that changes were lost.
_STANDING = "SELECT CASE WHEN pg_is_in_recovery() THEN greatest($1, newest) ELSE newest END"
_NEWEST = (
    f"{_STANDING}, this_timeline()"
    " FROM (SELECT coalesce(max(revision), 0) AS newest FROM key) AS found"
)
_VERSION = f"{_STANDING} FROM (SELECT version AS newest FROM role_version) AS found"
_NOTING = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.note', 0))"
_SOME = "WHERE id = ANY($1::text[])"
_UNREADABLE = "the keys cannot be read"


class _RowReader:
    """One decoding thread, started at once so that it exists when threads are short."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "row-reader")
        try:
            self._thread.submit(lambda: None)
        except RuntimeError as error:
            raise threads_unavailable(error) from error

    async def read(
        self, read: Callable[[asyncpg.Record], T], rows: Sequence[asyncpg.Record]
    ) -> list[T]:
        """Results of `read` for each row, which has a `document`."""
        if sum(len(row["document"]) for row in rows) <= _AT_ONCE_BYTES:
            return [read(row) for row in rows]
        return await self.work(lambda: [read(row) for row in rows])

    async def work(self, work: Callable[[], T]) -> T:
        """Result or exception of `work`, which must not touch the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown(wait=False)


class PostgresKeys:
    """`KeyStore` in one PostgreSQL schema. Use `await PostgresKeys.open(...)`."""

    def __init__(self, url: str, schema: str) -> None:
        self.commit_seconds, self.read_seconds = Histogram(), Histogram()
        self._database = Database(url, _CONNECTIONS, schema)
        self._rows = _RowReader()
        # Changes at each failover; None while unknown.
        self._timeline: str | None = None
        # Connections of their own, so that changes are seen within a second however many look-ups
        # wait, and a lock held on keys does not delay roles, nor the reverse.
        self._watching, self._watching_roles = (
            Database(
                url, 1, schema, answer_seconds=3, seconds=self.read_seconds,
                statement_timeout="2s", lock_timeout="1s",
            )
            for _ in range(2)
        )  # fmt: skip

    @classmethod
    async def open(cls, url: str, schema: str = SCHEMA) -> PostgresKeys:
        """Open the keys. Raises `Unavailable` without a database, `GatewayError` if unusable."""
        await migrate(url, schema)
        return cls(url, schema)

    async def create(self, key: Key) -> None:
        async with self._changing("the key was not stored") as connection:
            await key_rows.insert(connection, key)

    async def create_first(self, key: Key) -> bool:
        async with self._changing("the key was not stored") as connection:
            if await connection.fetchval("SELECT true FROM key LIMIT 1"):
                return False
            await key_rows.insert(connection, key)
        return True

    async def get(self, key_id: str) -> Key | None:
        keys = await self._select("WHERE id = $1", storable(key_id))
        return keys[0] if keys else None

    async def all(self) -> list[Key]:
        keys = [key async for part in self.parts() for key in part]
        return sorted(keys, key=lambda key: (key.created_at, key.id))

    async def parts(self) -> AsyncIterator[list[Key]]:
        last = ""
        while part := await self._select("WHERE id > $1 ORDER BY id LIMIT $2", last, PART_KEYS):
            last = part[-1].id
            yield part

    async def some(self, key_ids: Sequence[str]) -> list[Key]:
        return await self._select(_SOME, list(map(storable, key_ids)))

    async def ids(self) -> set[str]:
        async with self._watching.connection(_UNREADABLE) as connection:
            rows = await connection.fetch("SELECT id FROM key")
        return {row["id"] for row in rows}

    async def change(
        self, key_id: str, change: Callable[[Key], Key], *, create: Key | None = None
    ) -> Key | None:
        async with self._changing("the key was not changed") as connection:
            row = await connection.fetchrow(f"{key_rows.SELECT} WHERE id = $1", storable(key_id))
            if row is None:
                return None
            key = key_rows.key_of(row)
            check_readable(key)
            changed = change(key)
            if changed is not key:
                changed = await key_rows.update(connection, changed, key)
            if create is not None:
                await key_rows.insert(connection, create)
        return changed

    async def change_many(
        self,
        change: Callable[[list[Key]], Sequence[Key]],
        *,
        among: Sequence[str] | None = None,
    ) -> list[Key]:
        ids = () if among is None else (list(map(storable, among)),)
        async with self._changing("the keys were not changed") as connection:
            rows = await connection.fetch(f"{key_rows.SELECT} {_SOME if ids else ''}", *ids)
            keys = await self._rows.read(key_rows.key_of, rows)
            known = {key.id: key for key in keys}
            changed = []
            for key in await self._rows.work(lambda: change(keys)):
                if key is not known[key.id]:
                    check_readable(known[key.id])
                    key = await key_rows.update(connection, key, known[key.id])
                changed.append(key)
        return changed

    async def change_together(
        self, decide: DecidingTogether, by: Actor = "", at: float = 0.0
    ) -> None:
        async with self._changing("nothing was changed") as connection:
            found = await self._rows.read(key_rows.key_of, await connection.fetch(key_rows.SELECT))
            of_roles = await connection.fetch(key_rows.SELECT_ROLES)
            known = {key.id: key for key in found}
            roles = dict(await self._rows.read(key_rows.stored_role_of, of_roles))
            changes = await self._rows.work(lambda: decide(roles, found))
            await key_rows.store(connection, changes, known, roles, by, at)

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
        async with self._watching_roles.connection("the roles cannot be read") as connection:
            newest: int = await connection.fetchval(_VERSION, version)
            if newest == version:
                return version, {}
            rows = await connection.fetch(
                "SELECT name, document FROM role WHERE version > $1", version
            )
        return newest, dict(await self._rows.read(key_rows.role_of, rows))

    async def newest_revision(self) -> int:
        async with self._watching.connection(_UNREADABLE) as connection:
            newest: int = await connection.fetchval("SELECT coalesce(max(revision), 0) FROM key")
        return newest

    async def changed_since(self, revision: int) -> tuple[int, list[Key]]:
        async with self._watching.connection(_UNREADABLE) as connection:
            newest, timeline = await connection.fetchrow(_NEWEST, revision)
            before, self._timeline = self._timeline, timeline or self._timeline
            if before not in (None, self._timeline):
                # The promoted server may lack the last changes and reuse their revisions.
                return -1, []
            if newest <= revision:
                return newest, []
            rows = await connection.fetch(
                f"{key_rows.SELECT} WHERE revision > $1 ORDER BY revision", revision
            )
        keys = await self._rows.read(key_rows.key_of, rows)
        return (keys[-1].revision if keys else newest), keys

    async def record_later(self, change: Change) -> None:
        async with self._changing("the change was not kept") as connection:
            await key_rows.keep(connection, change)

    async def unrecorded(self, limit: int) -> dict[int, Change]:
        async with self._database.connection(_UNREADABLE) as connection:
            rows = await connection.fetch(
                "SELECT number, document FROM change ORDER BY number LIMIT $1", limit
            )
        return {row["number"]: read_change(row["document"]) for row in rows}

    async def mark_recorded(self, numbers: Sequence[int]) -> None:
        async with self._database.connection("the changes were not marked") as connection:
            await connection.execute("DELETE FROM change WHERE number = ANY($1)", list(numbers))

    async def note(self, kind: str, name: str) -> bytes | None:
        async with self._database.connection(_UNREADABLE) as connection:
            return await _note(connection, kind, name)

    async def watched_note(self, kind: str, name: str) -> bytes | None:
        async with self._watching_roles.connection(_UNREADABLE) as connection:
            return await _note(connection, kind, name)

    async def notes(self, kind: str, after: str = "", most: int | None = None) -> dict[str, bytes]:
        sql = "SELECT name, document FROM note WHERE kind = $1 AND name > $2 ORDER BY name LIMIT $3"
        async with self._database.connection(_UNREADABLE) as connection:
            rows = await connection.fetch(sql, kind, after, most)
        return {row["name"]: row["document"] for row in rows}

    async def update_notes(
        self, kind: str, updates: Mapping[str, Noting], *, erases: bool = False
    ) -> None:
        async with (
            self._database.connection("the notes were not kept") as connection,
            connection.transaction(),
        ):
            # Notes are frequent, and a crash of the machine may lose them.
            await connection.execute("SET LOCAL synchronous_commit = off")
            await connection.execute(_NOTING)
            names = list(updates)
            rows = await connection.fetch(
                "SELECT name, document FROM note WHERE kind = $1 AND name = ANY($2)", kind, names
            )
            before = {row["name"]: row["document"] for row in rows}
            after = {name: noting(before.get(name)) for name, noting in updates.items()}
            gone = [name for name, made in after.items() if made is None]
            await connection.execute(
                "DELETE FROM note WHERE kind = $1 AND name = ANY($2)", kind, gone
            )
            await connection.executemany(
                "INSERT INTO note VALUES ($1, $2, $3)"
                " ON CONFLICT (kind, name) DO UPDATE SET document = excluded.document",
                [(kind, name, made) for name, made in after.items() if made is not None],
            )

    async def wall_time(self) -> float | None:
        sql = "SELECT extract(epoch FROM clock_timestamp())::float8"
        async with self._database.connection("the clock cannot be read") as connection:
            wall: float = await connection.fetchval(sql)
        return wall

    async def close(self) -> None:
        await self._database.close()
        await self._watching.close()
        await self._watching_roles.close()
        self._rows.close()

    @asynccontextmanager
    async def _changing(self, refusal: str) -> AsyncIterator[asyncpg.Connection]:
        """The one transaction of all processes that may change keys or roles now."""
        with timed(self.commit_seconds, "store.write"):
            async with self._database.connection(refusal) as connection, connection.transaction():
                await connection.execute(_TURN)
                yield connection

    async def _change_role(
        self, name: str, role: Role | None, by: Actor, at: float, check: RoleCheck
    ) -> list[str] | None:
        async with self._changing("the role was not changed") as connection:
            known = await key_rows.role_document(connection, name)
            if known:
                check_readable(read_role(name, known))
            elif role is None:
                return None
            # Only keys with the role are decoded.
            named = f"{key_rows.SELECT} WHERE position($1::bytea IN document) > 0"
            rows = await connection.fetch(named, b'"%b"' % name.encode())
            keys = await self._rows.read(key_rows.key_of, rows)
            having = [key for key in keys if name in key.roles]
            rows = await connection.fetch("SELECT name, document FROM role WHERE document <> ''")
            roles = dict(await self._rows.read(key_rows.role_of, rows))
            check({name: role for name, role in roles.items() if role is not None}, having)
            losing = [] if role is not None and known else having
            for key in losing:
                await key_rows.update(connection, lifecycle.without_role(key, name, at, by), key)
            ids = [key.id for key in losing]
            await key_rows.put_role(connection, name, role, by, at, ids)
        return ids

    async def _select(self, condition: str, *bound: str | int | list[str]) -> list[Key]:
        with timed(self.read_seconds):
            async with self._database.connection(_UNREADABLE) as connection:
                rows = await connection.fetch(f"{key_rows.SELECT} {condition}", *bound)
        return await self._rows.read(key_rows.key_of, rows)


async def _note(connection: asyncpg.Connection, kind: str, name: str) -> bytes | None:
    sql = "SELECT document FROM note WHERE kind = $1 AND name = $2"
    document: bytes | None = await connection.fetchval(sql, kind, storable(name))
    return document
