"""Detection of a copied log file, which needs a new epoch.

Events appended to a copy get offsets that cursors of clients already point past. The log itself
records what tells the two apart:

| recorded | the file is | result |
| --- | --- | --- |
| a backup | | a new epoch, once |
| its gateway stopped in order | | the epoch stays: a folder may be moved, also by copying it |
| its gateway was running | the same (inode; device, within one boot) | the epoch stays: a crash |
| its gateway was running | another | a new epoch: it was copied while in use |

Devices get other numbers when a machine boots, so across boots the inode decides. A log set back
together with its file system, such as by a snapshot of the machine, is not detected.
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


def record_open(connection: apsw.Connection, path: Path) -> None:
    """Record the file that a gateway writes; give a copy a new epoch. First in a transaction."""
    status, boot = os.stat(path), boot_id()
    # SQLite's integers are signed.
    inode, device = _signed(status.st_ino), _signed(status.st_dev)
    known: Any = connection.execute(_KNOWN).fetchone()
    if known is not None and _is_copied(known, inode, device, boot):
        epoch = new_epoch()
        connection.execute("UPDATE log SET epoch = ?", (epoch,))
        _LOGGER.warning(
            "%s is a copy of a log, or a backup: its epoch is %s from now on, and cursors from "
            "before are answered with 410",
            path, epoch,
        )  # fmt: skip
    connection.execute(_HERE, (inode, device, boot))


def record_close(connection: apsw.Connection) -> None:
    """Record that the gateway stopped in order: the log keeps its epoch wherever it moves."""
    with writing(connection):
        connection.execute("UPDATE place SET ended = 1")


def mark_copy(connection: apsw.Connection) -> None:
    """Mark the log as a backup, which gets a new epoch at its first start."""
    with writing(connection):
        connection.execute("INSERT OR REPLACE INTO place VALUES (1, 0, 0, '', 0, 1)")


def mark_new_epoch(connection: apsw.Connection) -> None:
    """Record that the log already has a new epoch."""
    connection.execute("INSERT OR REPLACE INTO place VALUES (1, 0, 0, '', 1, 0)")


def _is_copied(known: tuple[int, int, str, int, int], inode: int, device: int, boot: str) -> bool:
    known_inode, known_device, known_boot, ended, copied = known
    if copied:
        return True
    if ended:
        return False
    moved = known_device != device and known_boot == boot and bool(boot)
    return known_inode != inode or moved


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number
