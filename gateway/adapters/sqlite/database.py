"""Opening SQLite files: pragmas, migrations, and which failures mean what."""

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
# A writer waits for another process that writes. A reader waits for nobody unless a process has
# the file to itself; what is read often had better fail soon.
_BUSY_MILLISECONDS = 5000
_PRIVATE = 0o600
_LOGGER = logging.getLogger(__name__)
_BUSY_READER_MILLISECONDS = 1000


def open_writer(path: Path, schema: str) -> apsw.Connection:
    """A connection that may write, with the schema `sql/<schema>_NNN.sql` up to date.

    Raises `GatewayError` if the file is none of ours, of a newer version, or of one from before the
    baseline.
    """
    try:
        return _open_writer(path, schema)
    except apsw.Error as error:
        raise unavailable(error, f"{path} cannot be opened") from error


def _open_writer(path: Path, schema: str) -> apsw.Connection:
    keep_private(path)
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    known = scripts(schema)
    # Before anything is written into a file of another version.
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
        # Another process may have been quicker.
        if _version(connection) < number:
            connection.execute(script)
            connection.pragma("user_version", number)


def _version(connection: apsw.Connection) -> int:
    return int(str(connection.pragma("user_version")))


def keep_private(path: Path) -> None:
    """Let the user of the program alone read a database, whatever its folder allows others.

    SQLite gives the files beside it the mode of the database.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE))
        for one in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            if one.exists() and stat.S_IMODE(one.stat().st_mode) & ~_PRIVATE:
                one.chmod(_PRIVATE)
                _LOGGER.warning("%s could be read by others; from now on it cannot", one)
    except OSError:
        # Somebody else's file, or none that can be written: opening it says what is wrong.
        return


def open_reader(path: Path) -> apsw.Connection:
    """A connection that only reads."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(_BUSY_READER_MILLISECONDS)
    connection.pragma("mmap_size", 1 << 40)
    return connection


@contextmanager
def writing(connection: apsw.Connection) -> Iterator[None]:
    """A transaction that writes; other processes wait until it has ended.

    A connection's own context manager holds Python's lock while it waits for another process or
    for the disk, and so stops every thread. `execute` lets go of it.
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
    """What a failure of the database means to a client."""
    if isinstance(error, apsw.FullError):
        return Unavailable(f"{what}: the disk is full", code="disk_full", retry_after=30)
    return Unavailable(f"{what}: {error}", code="store_unavailable", retry_after=5)


def migrate(path: Path, schema: str) -> Migrated:
    """Bring a file up to date."""
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
    """The scripts of a schema by number, in the order they are applied."""
    return load_scripts("gateway.adapters.sqlite")[schema]
