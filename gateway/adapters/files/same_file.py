"""Whether a file that is in use is still the one at its path.

A process goes on writing into a file that was deleted, or whose file system was taken away, without
any error; what it acknowledges is gone with its end.
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
    """An SQLite file and its write-ahead log. `check` costs two looks at a folder, a few
    microseconds; it may be called on any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Text, as a path is made into it at each look.
        self._name, self._wal = str(path), f"{path}-wal"
        self._known = _identity(self._name)
        self._has_wal = False
        self._polled_at = -math.inf

    def opened(self) -> None:
        """The file has been opened: if it was just made, it is the one from now on."""
        if self._known is None:
            self._known = _identity(self._name)

    def check(self, recent: float = 0.0) -> None:
        """Raises `Unavailable` while the file is gone, or another one is in its place. It is not
        looked at again if it was there so many seconds ago."""
        now = time.monotonic()
        if now - self._polled_at < recent:
            return
        if (degraded_reason := self.degraded_reason) is not None:
            self._polled_at = -math.inf
            raise degraded_reason
        self._polled_at = now

    @property
    def degraded_reason(self) -> Unavailable | None:
        """What is wrong with it."""
        if self._known is None:
            return None
        # While the file is open, so is its write-ahead log, once there is one.
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
