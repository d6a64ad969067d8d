"""The file that `audit-gateway tail --output` appends events to: each once, also over crashes."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from gateway.cli.base.cursor_file import sync_folder
from gateway.errors import InvalidRequest, Unavailable

# More than any line has.
_END_BYTES = 4 * 1024 * 1024


class EventFile:
    """File of events in one format, one per line, for one writer.

    `cursor` is that of the last whole line; None if there is none. `rotate_size`: bytes after
    which it becomes `NAME.1`, that `NAME.2`, up to `rotate_keep`; 0 for never. Methods raise
    `OSError`.
    """

    def __init__(
        self, path: Path, rotate_size: int = 0, rotate_keep: int = 1, format: str = "native"
    ) -> None:
        self.path = path
        self._format = format
        self._rotate_size = rotate_size
        self._rotate_keep = rotate_keep
        self._file = self._open()
        try:
            self.cursor = self._recover()
        except BaseException:
            os.close(self._file)
            raise

    def rotated_since(self, path: Path) -> bool:
        """Whether the file that was rotated last, by this or by logrotate, was written to after
        another file."""
        try:
            return self._numbered(1).stat().st_mtime_ns >= path.stat().st_mtime_ns
        except FileNotFoundError:
            return False

    def rotated_cursor(self) -> str | None:
        """Cursor of the last whole line of the file that was rotated last."""
        try:
            with self._numbered(1).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                return last_line(file.fileno(), size, self._numbered(1), self._format)[1]
        except (FileNotFoundError, InvalidRequest):
            return None

    def write(self, events: list[bytes]) -> None:
        """Append events. They survive the end of this process, and `sync` the machine's."""
        waiting: list[bytes] = []
        size = self._size
        for event in events:
            size += len(event) + 1
            if self._rotate_size and size > self._rotate_size and size > len(event) + 1:
                self._append(waiting)
                self._rotate()
                waiting, size = [], len(event) + 1
            waiting.append(event)
        self._append(waiting)

    def sync(self) -> None:
        os.fsync(self._file)

    def reopen(self) -> None:
        """Go on in the file that has the name now, as after a rotation by others."""
        self.sync()
        if self._is_named(self._file):
            # Another one may not lock what this one has locked.
            return
        following = self._open()
        os.close(self._file)
        self._file = following
        self._size = os.fstat(following).st_size

    def close(self) -> None:
        os.close(self._file)

    def _is_named(self, descriptor: int) -> bool:
        """Whether the name is that of an open file."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def _open(self) -> int:
        """The open file of the name, locked; made if there is none."""
        while True:
            descriptor = self._open_and_lock()
            if self._is_named(descriptor):
                return descriptor
            # Another process rotated it, and let go of it, before it was locked.
            os.close(descriptor)

    def _open_and_lock(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self.path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InvalidRequest(f"{self.path} is no file; leave --output out for a pipe")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise Unavailable(
                f"another process writes to {self.path}", code="file_locked"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        sync_folder(self.path)
        return descriptor

    def _append(self, events: list[bytes]) -> None:
        data = memoryview(b"".join([part for event in events for part in (event, b"\n")]))
        while data:
            written = os.write(self._file, data)
            self._size += written
            data = data[written:]

    def _rotate(self) -> None:
        self.sync()
        free = 1
        while free < self._rotate_keep and self._numbered(free).exists():
            free += 1
        for number in range(free, 1, -1):
            self._numbered(number - 1).replace(self._numbered(number))
        self.path.replace(self._numbered(1))
        self.reopen()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _recover(self) -> str | None:
        """Cursor of the last whole line; what was begun behind it is cut off.

        Raises `InvalidRequest`, and changes nothing, if the file is not one of events.
        """
        size = os.fstat(self._file).st_size
        whole, cursor = last_line(self._file, size, self.path, self._format)
        if whole < size:
            os.ftruncate(self._file, whole)
            self.sync()
        self._size = whole
        return cursor


def last_line(file: int, size: int, path: Path, format: str) -> tuple[int, str | None]:
    """Where the last whole line of an open file ends, and its cursor; `(0, None)` without one."""
    # Imported here: `--help` need not wait for it.
    from gateway.formats.cursors import BEGINS, cursor_in

    end = os.pread(file, _END_BYTES, max(0, size - _END_BYTES))
    whole = end.rfind(b"\n") + 1
    line = end[:whole][end.rfind(b"\n", 0, max(0, whole - 1)) + 1 : whole]
    torn = end[whole:]
    cursor = cursor_in(format, line)
    begin = BEGINS[format]
    is_ours = cursor is not None if line else torn[: len(begin)] == begin[: len(torn)]
    if not is_ours:
        raise InvalidRequest(
            f"{path} does not end with an event in the format {format}; name another file for "
            "--output"
        )
    return size - len(torn), cursor
