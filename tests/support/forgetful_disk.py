"""A disk that forgets, when the power fails, what was not synced.

As a VFS of SQLite: files are those of the machine, so that the running program sees what it has
written. What a disk would hold after a power failure is kept beside them: of each file its writes
up to its last sync, and no others, in order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import apsw

_NAME = "forgetful"
# A sync takes its time: who does not wait for it is seen.
_SYNC_SECONDS = 0.01


class ForgetfulDisk(apsw.VFS):
    """The disk under all connections that are opened meanwhile."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._synced: dict[str, bytearray] = {}
        self._pending: dict[str, list[tuple[int, bytes | None]]] = {}
        self.syncs = 0
        self.base = apsw.vfs_names()[0]
        super().__init__(_NAME, base=self.base, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        with self._lock:
            self._synced.pop(filename, None)
            self._pending.pop(filename, None)
        super().xDelete(filename, syncdir)

    def write(self, path: str, offset: int, data: bytes | None) -> None:
        """Note a write; without data, what is behind `offset` is cut off."""
        with self._lock:
            self._pending.setdefault(path, []).append((offset, data))

    def sync(self, path: str) -> None:
        """Make the writes so far durable."""
        with self._lock:
            count = len(self._pending.get(path, ()))
        time.sleep(_SYNC_SECONDS)
        with self._lock:
            self.syncs += 1
            content = self._synced.setdefault(path, bytearray())
            pending = self._pending.get(path, [])
            for offset, data in pending[:count]:
                if data is None:
                    del content[offset:]
                else:
                    content.extend(bytes(max(0, offset - len(content))))
                    content[offset : offset + len(data)] = data
            del pending[:count]

    def after_power_failure(self, path: Path, folder: Path) -> Path:
        """A database as it would be found now, with its log of writes, copied into a folder."""
        with self._lock:
            for end in ("", "-wal"):
                content = self._synced.get(f"{path}{end}")
                copied = folder / f"{path.name}{end}"
                copied.unlink(missing_ok=True)
                if content is not None:
                    copied.write_bytes(content)
        (folder / f"{path.name}-shm").unlink(missing_ok=True)
        return folder / path.name


class _File(apsw.VFSFile):
    def __init__(self, disk: ForgetfulDisk, name: Any, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._disk = disk
        self._path = str(path)
        super().__init__(disk.base, name, flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self._disk.write(self._path, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._disk.write(self._path, newsize, None)

    def xSync(self, flags: int) -> None:  # noqa: N802
        # The machine itself does not fail.
        self._disk.sync(self._path)


@contextmanager
def forgetful_disk() -> Iterator[ForgetfulDisk]:
    """Such a disk for all databases that are opened within, and closed by its end."""
    before = apsw.vfs_names()[0]
    disk = ForgetfulDisk()
    try:
        yield disk
    finally:
        disk.unregister()
        # The one that it was made the default in place of is it again.
        assert apsw.vfs_names()[0] == before
