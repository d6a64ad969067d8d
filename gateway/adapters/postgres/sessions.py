"""Detection of poolers that share a session of the server between connections."""

from __future__ import annotations

import asyncpg

from gateway.errors import GatewayError

_TRIES = 3
_SECONDS = 5
_PID = "SELECT pg_backend_pid()"


async def check_sessions(url: str) -> None:
    """Raise `GatewayError` if a pooler gives one session to several connections in turn.

    Session settings would then apply to others too, and prepared statements be missing. A busy
    pooler may go unnoticed; a harmless one is never refused. Raises what asyncpg raises if there is
    no connection.
    """
    connection = await asyncpg.connect(url, timeout=_SECONDS, command_timeout=_SECONDS)
    try:
        # A pooler reports a process number of its own.
        if await connection.fetchval(_PID) != connection.get_server_pid():
            await _compare(connection, url)
    except (
        asyncpg.InvalidSQLStatementNameError,
        asyncpg.DuplicatePreparedStatementError,
    ) as error:
        raise _shared() from error
    finally:
        connection.terminate()


async def _compare(connection: asyncpg.Connection, url: str) -> None:
    """Raise if another connection gets the session that this one still holds."""
    try:
        other = await asyncpg.connect(url, timeout=_SECONDS, command_timeout=_SECONDS)
    except (asyncpg.PostgresError, OSError, TimeoutError):
        # The server has no further session to give, so this one is not shared.
        return
    try:
        for _ in range(_TRIES):
            if await connection.fetchval(_PID) == await other.fetchval(_PID):
                raise _shared()
    finally:
        other.terminate()


def _shared() -> GatewayError:
    return GatewayError(
        "store.url: this is a pooler that shares sessions among its clients; a gateway needs "
        "sessions of its own: connect to PostgreSQL itself, or set pool_mode = session (PgBouncer)",
        code="database_unusable",
    )
