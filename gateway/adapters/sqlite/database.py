"""SQLite files: opening, pragmas, migrations, and the meaning of failures."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from gateway.adapters.migrations import Migrated, load_scripts, missing_scripts, script_name
from gateway.errors import GatewayError, Unavailable

# 8 KiB pages measured fastest for events of about 600 bytes, appended and scanned.
_PAGE_SIZE = 8192
# A writer waits for another writing process. A reader waits only if a process has locked the whole
# file; frequent reads had better fail soon.
_BUSY_MILLISECONDS = 5000
_PRIVATE = 0o600
_LOGGER = logging.getLogger(__name__)
_BUSY_READER_MILLISECONDS = 1000


def open_writer(path: Path, schema: str) -> apsw.Connection:
    """Connection that may write, with the schema `sql/<schema>_NNN.sql` up to date.

    Raises `GatewayError` if the file is foreign, of a newer version, or older than the baseline.
    """
    try:
        return _open_writer(path, schema)
    except apsw.Error as error:
        raise unavailable(error, f"{path} cannot be opened") from error


def open_secret_writer(path: Path, schema: str) -> apsw.Connection:
    """Connection as of `open_writer`, to a file that holds secrets: what it deletes or replaces is
    overwritten."""
    connection = open_writer(path, schema)
    connection.pragma("secure_delete", True)
    return connection


def empty_write_ahead_log(connection: apsw.Connection) -> None:
    """Bring all that is committed into the database, and leave nothing beside it. Whoever reads for
    seconds just now keeps a part of it until the next time."""
    try:
        connection.pragma("wal_checkpoint", "truncate")
    except apsw.Error as error:
        _LOGGER.warning("what was replaced stays beside the database for a while: %s", error)


def _open_writer(path: Path, schema: str) -> apsw.Connection:
    keep_private(path)
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    known = scripts(schema)
    # Checked before anything is written into a file of another version.
    missing = missing_scripts(str(path), schema, _version(connection), known)
    connection.pragma("page_size", _PAGE_SIZE)
    connection.pragma("journal_mode", "wal")
    # In WAL mode only FULL syncs at each commit: what is acknowledged survives power loss.
    connection.pragma("synchronous", "full")
    connection.pragma("cache_size", -65536)
    connection.pragma("journal_size_limit", 64 << 20)
    for number in missing:
        _apply(connection, number, known[number])
    return connection


def _apply(connection: apsw.Connection, number: int, script: str) -> None:
    with writing(connection):
        # Another process may have applied it meanwhile.
        if _version(connection) < number:
            connection.execute(script)
            connection.pragma("user_version", number)


def _version(connection: apsw.Connection) -> int:
    return int(str(connection.pragma("user_version")))


def keep_private(path: Path) -> None:
    """Make a database readable by its user only, whatever its folder allows.

    SQLite gives the files beside it the mode of the database.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE))
        for one in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            if one.exists() and stat.S_IMODE(one.stat().st_mode) & ~_PRIVATE:
                one.chmod(_PRIVATE)
                _LOGGER.warning("%s could be read by others; from now on it cannot", one)
    except OSError:
        # Another user's file, or a read-only one: opening it reports the error.
        return


def open_reader(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(_BUSY_READER_MILLISECONDS)
    connection.pragma("mmap_size", 1 << 40)
    return connection


@contextmanager
def writing(connection: apsw.Connection) -> Iterator[None]:
    """Write transaction; other writing processes wait until it ends.

    A connection's own context manager holds Python's lock while it waits for another process or the
    disk, and so stops every thread. `execute` releases it.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def unavailable(error: apsw.Error, what: str) -> GatewayError:
    """Error for clients that a failure of the database means."""
    if isinstance(error, apsw.FullError):
        return Unavailable(f"{what}: the disk is full", code="disk_full", retry_after=30)
    return Unavailable(f"{what}: {error}", code="store_unavailable", retry_after=5)


def migrate(path: Path, schema: str) -> Migrated:
    """Bring the schema of a file up to date."""
    try:
        connection = open_reader(path)
        before = _version(connection)
        connection.close()
    except apsw.Error as error:
        raise unavailable(error, f"{path} cannot be opened") from error
    open_writer(path, schema).close()
    known = scripts(schema)
    applied = tuple(script_name(schema, number) for number in known if number > before)
    return Migrated(before, max(known), applied)


def scripts(schema: str) -> dict[int, str]:
    """Scripts of a schema by number, in the order they are applied."""
    return load_scripts("gateway.adapters.sqlite")[schema]
