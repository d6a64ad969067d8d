"""Whether a connection has a session of the server to itself, or shares it through a pooler."""

from __future__ import annotations

import asyncpg

from gateway.errors import GatewayError

_TRIES = 3
_SECONDS = 5
_PID = "SELECT pg_backend_pid()"


async def check_sessions(url: str) -> None:
    """Raises `GatewayError` if a pooler gives one session to several connections in turn.

    Settings of a session would then hold for others too, and statements that were prepared in one
    would be looked for in another. One that is very busy may go unnoticed; none is refused that
    does no harm. Raises what asyncpg raises if there is no connection.
    """
    connection = await asyncpg.connect(url, timeout=_SECONDS, command_timeout=_SECONDS)
    try:
        # Where a pooler answers, it is not the server that has told its process.
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
    """Does another connection get the session of this one, which still has it?"""
    try:
        other = await asyncpg.connect(url, timeout=_SECONDS, command_timeout=_SECONDS)
    except (asyncpg.PostgresError, OSError, TimeoutError):
        # There is no other session to be had, so this one is ours.
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
