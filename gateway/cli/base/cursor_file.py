"""The file in which a command that follows keeps its position."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.errors import InvalidRequest

# A position names its file, whose path may be long.
_MOST_BYTES = 64 * 1024


class CursorFile:
    """File of one cursor, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: str | None = None

    def read(self) -> str | None:
        """The cursor; None if there is none yet."""
        try:
            with self.path.open("rb") as file:
                text = file.read(_MOST_BYTES).decode("ascii").strip()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise InvalidRequest(
                f"{self.path} holds no cursor; name another file, or remove it to begin anew"
            ) from None
        self._written = text or None
        return self._written

    def write(self, cursor: str) -> None:
        """Keep a cursor, durably. Raises `OSError`."""
        if cursor == self._written:
            return
        draft = self.path.with_name(f"{self.path.name}.new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(f"{cursor}\n".encode())
            file.flush()
            os.fsync(descriptor)
        draft.replace(self.path)
        sync_folder(self.path)
        self._written = cursor


def sync_folder(path: Path) -> None:
    """Make the name of a file durable."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
