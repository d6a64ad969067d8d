"""Where the peppers are: a file that is read again when it has changed, or a setting."""

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
    """Processes of one folder share it, and each looks at it again several times a second.

    `given` is the content of the setting `server.pepper`, which takes the file's place; `named`
    says that the setting `server.pepper_file` names the file: nobody but its owner makes it.
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
        """Where somebody has to look for the peppers."""
        return "server.pepper" if self._given is not None else str(self.path)

    def content(self) -> bytes | None:
        """The file as it is; None where the setting holds the peppers, or there are none."""
        return None if self._given is not None else read_secret(self.path, "pepper_damaged")

    def find(self) -> Peppers | None:
        """The peppers; None if there are none. Raises `GatewayError` if the file is damaged."""
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
        """The peppers, which have to be there."""
        found = self.find()
        if found is None:
            raise GatewayError(
                f"there is no pepper {self.path}; restore it from backup", code=MISSING
            )
        return found

    def make(self) -> Peppers:
        """The peppers; a first one is made if there are none. Only where no key needs another."""
        if self.find() is None:
            make_secret(self.path, secrets.token_bytes(BYTES))
        return self.read()

    def newest(self) -> Peppers:
        """The same as `read`, but the file is read only if it has changed; the peppers are as they
        were before if it cannot be read."""
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
        """Replace the peppers; nobody else changes them in between."""
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
