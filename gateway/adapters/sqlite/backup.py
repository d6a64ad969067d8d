"""Copies of SQLite files in use, and new epochs of restored logs."""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from gateway.adapters.files.folder import WriterLock
from gateway.adapters.sqlite.copy_detection import mark_copy, mark_new_epoch
from gateway.adapters.sqlite.database import open_reader, open_writer, unavailable, writing
from gateway.cursor import new_epoch
from gateway.errors import NotFound


def copy_database(source: Path, target: Path) -> None:
    """Copy a consistent snapshot of a database, while other processes may write to it.

    `target` must not exist; it is private to its user, and synced to disk on return.
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        reading, writing = open_reader(source), apsw.Connection(str(target))
        with reading, writing.backup("main", reading, "main") as backup:
            # In one step: between two, a write of another process would restart the copy.
            backup.step()
        writing.close()
        reading.close()
    except apsw.Error as error:
        raise unavailable(error, f"{source} was not copied to {target}") from error


def copy_log(source: Path, target: Path) -> None:
    """Copy the log, marked for a new epoch at its start: clients may have read later events."""
    copy_database(source, target)
    try:
        connection = open_writer(target, "sqlite_log")
        try:
            mark_copy(connection)
        finally:
            connection.close()
    except apsw.Error as error:
        raise unavailable(error, f"{target} was not marked as a copy") from error


def begin_new_life(path: Path) -> str:
    """Give the log at `path` a new epoch, and return it: after it was set back to an earlier state,
    so that cursors from later do not point to other events.

    Raises `NotFound` if there is no log, `FolderLocked` while a gateway runs on it.
    """
    if not path.exists():
        raise NotFound(f"there is no log {path}")
    lock = WriterLock(path)
    try:
        connection = open_writer(path, "sqlite_log")
        try:
            epoch = new_epoch()
            with writing(connection):
                connection.execute("UPDATE log SET epoch = ?", (epoch,))
                mark_new_epoch(connection)
            return epoch
        except apsw.Error as error:
            raise unavailable(error, f"{path} was not changed") from error
        finally:
            connection.close()
    finally:
        lock.release()
