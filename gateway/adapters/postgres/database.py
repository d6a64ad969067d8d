"""PostgreSQL: pools that reconnect, migrations, and the meaning of failures."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg

from gateway.adapters.migrations import (
    Migrated,
    load_scripts,
    missing_scripts,
    script_name,
    split_name,
)
from gateway.adapters.timed import timed
from gateway.errors import GatewayError, Unavailable
from gateway.histogram import Histogram

_LOGGER = logging.getLogger(__name__)

OLDEST_VERSION = 15
SCHEMA = "audit_gateway"
# Seconds to wait for a connection and for a statement. The server gives up on a statement before
# the client does, so that it does not work on for nobody.
_CONNECT_SECONDS = 5
_STATEMENT_SECONDS = 10
_ANSWER_SECONDS = 15
_SESSION_TRIES = 3
_SESSION_SECONDS = 5
_SESSION_PID = "SELECT pg_backend_pid()"
_NAME = {"application_name": "audit-gateway"}
_SETTINGS = {
    "statement_timeout": f"{_STATEMENT_SECONDS}s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    "timezone": "UTC",
    # A statement that waited for a lock then sees what the lock's holder committed.
    "default_transaction_isolation": "read committed",
    # Every query reads few rows of large tables, in the order of an index.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
_DURABLE = """
set_config('synchronous_commit', CASE current_setting('synchronous_commit')
           WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)
"""


class Database:
    """Pool of connections to one database, opened on demand.

    `settings` are session settings of its connections; `greet` is called with each new one;
    `seconds` times their use. Every failure surfaces as `Unavailable`; the next use reconnects.
    """

    def __init__(
        self,
        url: str,
        size: int,
        schema: str = SCHEMA,
        greet: Callable[[asyncpg.Connection], Awaitable[None]] | None = None,
        *,
        answer_seconds: float = _ANSWER_SECONDS,
        seconds: Histogram | None = None,
        **settings: str,
    ) -> None:
        self._url = url
        self._size = size
        self._greet = greet
        self._answer_seconds = answer_seconds
        self._settings = {**_SETTINGS, "search_path": schema, **settings}
        self._seconds = seconds
        self._pool: asyncpg.Pool | None = None

    @asynccontextmanager
    async def connection(self, refusal: str) -> AsyncIterator[asyncpg.Connection]:
        """Connection for a short time. `refusal` begins the detail of a failure."""
        try:
            pool = await self._connected()
            async with pool.acquire(timeout=_CONNECT_SECONDS) as connection:
                try:
                    with timed(self._seconds):
                        yield connection
                except asyncpg.InternalClientError:
                    # The server closed the connection while it was idle.
                    connection.terminate()
                    raise
        except _FAILURES as error:
            if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                # After a failover the old primary may still answer; a new connection finds the new.
                await self.let_go()
            raise unavailable(error, refusal) from error

    async def let_go(self) -> None:
        """Replace all present connections before their next use."""
        if self._pool is not None:
            await self._pool.expire_connections()

    async def close(self) -> None:
        """Close all connections, including those in use."""
        if self._pool is not None:
            self._pool.terminate()

    async def _connected(self) -> asyncpg.Pool:
        if self._pool is None:
            self._pool = asyncpg.create_pool(
                self._url,
                min_size=0,
                max_size=self._size,
                timeout=_CONNECT_SECONDS,
                command_timeout=self._answer_seconds,
                server_settings=_NAME,
                init=self._prepare,
                reset=_keep_as_it_is,
            )
        await self._pool
        return self._pool

    async def _prepare(self, connection: asyncpg.Connection) -> None:
        # Not as startup parameters: poolers refuse or ignore those.
        chosen = [
            f"set_config('{name}', '{value}', false)" for name, value in self._settings.items()
        ]
        if "synchronous_commit" not in self._settings:
            # A commit is on disk when it returns, whatever the server's default is.
            chosen.append(_DURABLE)
        await connection.execute("SELECT " + ", ".join(chosen))
        if self._greet is not None:
            await self._greet(connection)


@contextmanager
def _failing_as(refusal: str) -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        raise unavailable(error, refusal) from error


async def _keep_as_it_is(connection: asyncpg.Connection) -> None:
    """Skip the session reset at release, which costs a round trip: no session is changed here."""


async def migrate(url: str, schema: str = SCHEMA) -> Migrated:
    """Bring the schema up to date: the numbered scripts it still needs, in one transaction.

    Only one process does it at a time. Raises `Unavailable` if the database cannot be reached,
    and `GatewayError` if it is too old, not UTF-8, behind a pooler that shares sessions, or was
    written by a version of this program that is newer, or older than the baseline.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,40}", schema):
        raise GatewayError(f"not a name of a schema: {schema!r}", code="invalid_setting")
    database = Database(url, 1, schema, statement_timeout="0", lock_timeout="60s")
    try:
        with _failing_as("the database cannot be prepared"):
            await _check_sessions(url)
        async with database.connection("the database cannot be prepared") as connection:
            _check_server(connection, await connection.fetchval("SHOW server_encoding"))
            async with connection.transaction():
                return await _migrate(connection, schema)
    except Unavailable as error:
        cause = error.__cause__
        if isinstance(cause, asyncpg.InsufficientPrivilegeError):
            raise GatewayError(
                f"store.url: this user may not make or change the schema {schema}: "
                f"{cause}; grant it CREATE on the database once, or run as an administrator: "
                f"CREATE SCHEMA {schema} AUTHORIZATION <user>",
                code="database_unusable",
            ) from error
        # The operator who starts a gateway may see what clients may not.
        raise Unavailable(
            f"store.url: {error.detail} ({type(cause).__name__}: {str(cause) or 'no answer'})",
            code=error.code,
            retry_after=error.retry_after,
        ) from cause
    finally:
        await database.close()


async def _check_sessions(url: str) -> None:
    """Raise `GatewayError` if a pooler gives one session to several connections in turn.

    Session settings would then apply to others too, and prepared statements be missing. A busy
    pooler may go unnoticed; a harmless one is never refused. Raises what asyncpg raises if there is
    no connection.
    """
    connection = await asyncpg.connect(
        url, timeout=_SESSION_SECONDS, command_timeout=_SESSION_SECONDS
    )
    try:
        # A pooler reports a process number of its own.
        if await connection.fetchval(_SESSION_PID) != connection.get_server_pid():
            await _compare_sessions(connection, url)
    except (
        asyncpg.InvalidSQLStatementNameError,
        asyncpg.DuplicatePreparedStatementError,
    ) as error:
        raise _shared_sessions() from error
    finally:
        connection.terminate()


async def _compare_sessions(connection: asyncpg.Connection, url: str) -> None:
    """Raise if another connection gets the session that this one still holds."""
    try:
        other = await asyncpg.connect(
            url, timeout=_SESSION_SECONDS, command_timeout=_SESSION_SECONDS
        )
    except (asyncpg.PostgresError, OSError, TimeoutError):
        # The server has no further session to give, so this one is not shared.
        return
    try:
        for _ in range(_SESSION_TRIES):
            if await connection.fetchval(_SESSION_PID) == await other.fetchval(_SESSION_PID):
                raise _shared_sessions()
    finally:
        other.terminate()


def _shared_sessions() -> GatewayError:
    return GatewayError(
        "store.url: this is a pooler that shares sessions among its clients; a gateway needs "
        "sessions of its own: connect to PostgreSQL itself, or set pool_mode = session (PgBouncer)",
        code="database_unusable",
    )


def _check_server(connection: asyncpg.Connection, encoding: str) -> None:
    version = connection.get_server_version()
    if version.major < OLDEST_VERSION:
        raise GatewayError(
            f"store.url: this is PostgreSQL {version.major}; {OLDEST_VERSION} or newer is needed",
            code="database_unusable",
        )
    if encoding != "UTF8":
        raise GatewayError(
            f"store.url: the encoding of this database is {encoding}; make one with UTF8",
            code="database_unusable",
        )


async def _migrate(connection: asyncpg.Connection, schema: str) -> Migrated:
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{schema}.migration"
    )
    # CREATE SCHEMA IF NOT EXISTS needs the privilege even if the schema exists.
    if await connection.fetchval("SELECT to_regnamespace($1)::text", schema) is None:
        await connection.execute(f"CREATE SCHEMA {schema}")
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS migration ("
        "name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    known = scripts()
    before = dict.fromkeys(known, 0)
    for row in await connection.fetch("SELECT name FROM migration"):
        part, number = split_name(row["name"])
        before[part] = max(before.get(part, 0), number)
    missing = [
        (part, number)
        for part, version in before.items()
        for number in missing_scripts(
            f"store.url: the schema {schema}", part, version, known.get(part, {})
        )
    ]
    for part, number in missing:
        await connection.execute(known[part][number])
        await connection.execute(
            "INSERT INTO migration (name) VALUES ($1)", script_name(part, number)
        )
    now = {**before, **dict(missing)}
    return Migrated(
        sum(before.values()), sum(now.values()), tuple(script_name(*one) for one in missing)
    )


def scripts() -> dict[str, dict[int, str]]:
    """Scripts of each part of the schema by number, in the order they are applied."""
    return load_scripts("gateway.adapters.postgres")


def storable(text: str) -> str:
    """Text without NUL, which PostgreSQL cannot hold. Equal texts stay equal, unequal ones
    unequal, and one that begins with another still does."""
    if "\x00" in text or "\x01" in text:
        return text.replace("\x01", "\x01\x31").replace("\x00", "\x01\x30")
    return text


def original(stored: str) -> str:
    """Inverse of `storable`."""
    if "\x01" in stored:
        return stored.replace("\x01\x30", "\x00").replace("\x01\x31", "\x01")
    return stored


def unavailable(error: BaseException, refusal: str) -> Unavailable:
    """Error for clients that a failure of the database means, without addresses or statements."""
    for kinds, code, reason, retry_after in _MEANINGS:
        if isinstance(error, kinds):
            return Unavailable(f"{refusal}: {reason}", code=code, retry_after=retry_after)
    _LOGGER.error("%s: %s: %s", refusal, type(error).__name__, error)
    return Unavailable(
        f"{refusal}: the database failed, see the log of the gateway",
        code="store_unavailable",
        retry_after=5,
    )


_FAILURES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_MEANINGS: tuple[tuple[tuple[type[Any], ...], str, str, int], ...] = (
    ((asyncpg.DiskFullError,), "disk_full", "the disk of the database is full", 30),
    (
        (asyncpg.ReadOnlySQLTransactionError,),
        "store_read_only",
        "the database accepts no writes",
        10,
    ),
    (
        (asyncpg.TooManyConnectionsError,),
        "store_unavailable",
        "the database has no connection left",
        5,
    ),
    (
        (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError, TimeoutError),
        "store_slow",
        "the database does not answer in time",
        5,
    ),
    (
        (
            asyncpg.PostgresConnectionError,
            asyncpg.OperatorInterventionError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            OSError,
        ),
        "store_unavailable",
        "the database cannot be reached",
        2,
    ),
)
