"""Source of the peppers: a file that is reread when it changes, or a setting."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from gateway.access.credentials.pepper import BYTES, Peppers, format_peppers, parse_peppers
from gateway.adapters.files.secret_file import make_secret, read_secret, write_draft
from gateway.errors import Conflict, GatewayError

_LOGGER = logging.getLogger(__name__)
MISSING = "pepper_missing"


class PepperFile:
    """File of the peppers, shared by the processes of one folder, which poll it.

    `given`: content of the setting `server.pepper`, which replaces the file. `named`: the setting
    `server.pepper_file` names the file, which only its owner creates.
    """

    def __init__(self, path: Path, *, given: bytes = b"", named: bool = False) -> None:
        self.path = path
        self.named = named
        self._given = parse_peppers(given) if given else None
        self._seen: tuple[int, int, int] | None = None
        self._peppers: Peppers | None = None
        self._said = ""

    @property
    def place(self) -> str:
        """Name of the setting or file, for messages."""
        return "server.pepper" if self._given is not None else str(self.path)

    def content(self) -> bytes | None:
        """Content of the file; None if the setting holds the peppers or the file is missing."""
        return None if self._given is not None else read_secret(self.path, "pepper_damaged")

    def find(self) -> Peppers | None:
        """The peppers, or None if missing. Raises `GatewayError` if the file is damaged."""
        if self._given is not None:
            return self._given
        content = self.content()
        if content is None:
            return None
        try:
            return parse_peppers(content)
        except ValueError as error:
            raise GatewayError(
                f"{self.path} is damaged ({error}); restore it from backup",
                code="pepper_damaged",
            ) from None

    def read(self) -> Peppers:
        """The peppers. Raises `GatewayError` if they are missing or damaged."""
        found = self.find()
        if found is None:
            raise GatewayError(
                f"there is no pepper {self.path}; restore it from backup", code=MISSING
            )
        return found

    def make(self) -> Peppers:
        """The peppers; if missing, write a first one. Only call it if no key needs another."""
        if self.find() is None:
            make_secret(self.path, secrets.token_bytes(BYTES))
        return self.read()

    def newest(self) -> Peppers:
        """The peppers, read again if the file has changed; the last known ones if that fails."""
        if self._given is not None:
            return self._given
        try:
            status = self.path.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._peppers is None or seen != self._seen:
                self._peppers = self.read()
                self._seen, self._said = seen, ""
        except (OSError, GatewayError) as error:
            if self._peppers is None:
                self._peppers = self.read()
            elif self._said != str(error):
                self._said = str(error)
                _LOGGER.warning("%s; the peppers stay as they were", error)
        return self._peppers

    def change(self, change: Callable[[Peppers], Peppers]) -> Peppers:
        """Replace the peppers by the result of `change`, under a lock between processes."""
        if self._given is not None:
            raise Conflict(
                "the pepper is in the setting server.pepper: change it there, or keep it in a file "
                "(server.pepper_file), which can be rotated"
            )
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            changed = change(self.read())
            draft = write_draft(self.path, format_peppers(changed))
            try:
                draft.rename(self.path)
            except OSError:
                draft.unlink()
                raise
            os.fsync(folder)
        except OSError as error:
            raise GatewayError(
                f"{self.path} cannot be replaced: {error.strerror}; where it is mounted from "
                "elsewhere, change it there",
                code="folder_unusable",
            ) from None
        finally:
            os.close(folder)
        return changed
