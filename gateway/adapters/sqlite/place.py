"""Whether an embedded log is the one that was written last, or a copy of it.

A copy takes in other events at the places that cursors of clients already stand behind, so it needs
another epoch. What tells them apart is written into the log itself:

| it says | the file is | then |
| --- | --- | --- |
| a backup | | a new epoch, once |
| its gateway stopped in order | | the epoch stays: a folder may be moved, by copying it as well |
| its gateway was running | the same (inode; device, within one boot) | the epoch stays: a crash |
| its gateway was running | another | a new epoch: it was copied while in use |

Devices get other numbers when a machine boots, so across boots the inode decides. What was set back
together with its file system, as a machine is to a snapshot, cannot be told by this.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import apsw

from gateway.adapters.sqlite.database import writing
from gateway.clock import boot_id
from gateway.cursor import new_epoch

_LOGGER = logging.getLogger(__name__)
_KNOWN = "SELECT inode, device, boot, ended, copied FROM place"
_HERE = "INSERT OR REPLACE INTO place VALUES (1, ?, ?, ?, 0, 0)"


def take_place(connection: apsw.Connection, path: Path) -> None:
    """Within a transaction, before anything is appended: say that the log is being written here,
    and begin another life of it if it is a copy."""
    status, boot = os.stat(path), boot_id()
    # SQLite's integers have a sign.
    inode, device = _signed(status.st_ino), _signed(status.st_dev)
    known: Any = connection.execute(_KNOWN).fetchone()
    if known is not None and _is_copy(known, inode, device, boot):
        epoch = new_epoch()
        connection.execute("UPDATE log SET epoch = ?", (epoch,))
        _LOGGER.warning(
            "%s is a copy of a log, or a backup: its epoch is %s from now on, and cursors from "
            "before are answered with 410",
            path, epoch,
        )  # fmt: skip
    connection.execute(_HERE, (inode, device, boot))


def leave_place(connection: apsw.Connection) -> None:
    """The gateway stops in order: wherever the file is found next, it is this log."""
    with writing(connection):
        connection.execute("UPDATE place SET ended = 1")


def mark_copy(connection: apsw.Connection) -> None:
    """It is a backup: its first start is another life."""
    with writing(connection):
        connection.execute("INSERT OR REPLACE INTO place VALUES (1, 0, 0, '', 0, 1)")


def mark_settled(connection: apsw.Connection) -> None:
    """It has been given another epoch already."""
    connection.execute("INSERT OR REPLACE INTO place VALUES (1, 0, 0, '', 1, 0)")


def _is_copy(known: tuple[int, int, str, int, int], inode: int, device: int, boot: str) -> bool:
    known_inode, known_device, known_boot, ended, copied = known
    if copied:
        return True
    if ended:
        return False
    moved = known_device != device and known_boot == boot and bool(boot)
    return known_inode != inode or moved


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number
