"""Folder below which files of destinations lie. Links are never followed out of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE = 0o600


def is_inside(path: str) -> bool:
    """Whether a path names a folder below another: without `..`, and not absolute."""
    parts = PurePosixPath(path).parts
    return all(map(_PART.fullmatch, parts)) and "/".join(parts) == path


class OpenFolder:
    """Open folder; its files are opened by their names in it. Raises `OSError`."""

    def __init__(self, root: Path, path: str = "") -> None:
        self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in PurePosixPath(path).parts:
            outer = self._fd
            try:
                with _ignored(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=outer)
                self._fd = os.open(part, _FOLDER, dir_fd=outer)
            finally:
                os.close(outer)

    def names(self) -> list[str]:
        return os.listdir(self._fd)

    def open(self, name: str, flags: int) -> int:
        """File descriptor of a file that only the gateway's user can read."""
        return os.open(name, flags | _FILE, _PRIVATE, dir_fd=self._fd)

    def rename(self, before: str, after: str) -> None:
        os.rename(before, after, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def remove(self, name: str) -> None:
        with _ignored(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def sync(self) -> None:
        """Make names durable."""
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


@contextmanager
def _ignored(kind: type[OSError]) -> Iterator[None]:
    try:
        yield
    except kind:
        pass
