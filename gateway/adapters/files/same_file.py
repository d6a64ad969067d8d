"""Detection of a database file that was deleted or replaced while in use.

A process keeps writing into a file that was deleted, or whose file system was unmounted, without
any error; the events it acknowledges are lost when it ends.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

from gateway.errors import Unavailable

GONE = "store_gone"
_Identity = tuple[int, int]


class SameFile:
    """Identity of an SQLite file and its write-ahead log, on any thread.

    `check` costs two `stat` calls, a few microseconds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Strings: `stat` would convert a path at each call.
        self._name, self._wal = str(path), f"{path}-wal"
        self._known = _identity(self._name)
        self._has_wal = False
        self._polled_at = -math.inf

    def opened(self) -> None:
        """Remember the identity of a file that was just created."""
        if self._known is None:
            self._known = _identity(self._name)

    def check(self, recent: float = 0.0) -> None:
        """Raise `Unavailable` if the file is gone or replaced. Skipped if the last check that
        found it is less than `recent` seconds ago."""
        now = time.monotonic()
        if now - self._polled_at < recent:
            return
        if (degraded_reason := self.degraded_reason) is not None:
            self._polled_at = -math.inf
            raise degraded_reason
        self._polled_at = now

    @property
    def degraded_reason(self) -> Unavailable | None:
        """Error of a missing or replaced file, or None."""
        if self._known is None:
            return None
        # SQLite keeps the write-ahead log, once created, for as long as the file is open.
        has_wal = _identity(self._wal) is not None
        if _identity(self._name) == self._known and has_wal >= self._has_wal:
            self._has_wal = has_wal
            return None
        return Unavailable(
            f"{self.path} was deleted, moved or replaced, or its file system is gone; put the same "
            "file back, or stop the gateway and restore a backup",
            code=GONE,
            retry_after=30,
        )


def _identity(name: str) -> _Identity | None:
    try:
        status = os.stat(name)
    except OSError:
        return None
    return status.st_dev, status.st_ino
