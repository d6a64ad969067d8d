"""Source of the peppers: a file that is reread when it changes, or a setting."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable
from pathlib import Path

from gateway.access.credentials.pepper import Peppers, format_peppers, parse_peppers
from gateway.adapters.files.secret_file import SecretFile, write_draft
from gateway.errors import Conflict, GatewayError

_LOGGER = logging.getLogger(__name__)
MISSING = "pepper_missing"


class PepperFile(SecretFile[Peppers]):
    """File of the peppers, shared by the processes of one folder, which poll it.

    Only call `make` if no key needs another pepper.
    """

    setting = "server.pepper"
    called = "pepper"
    missing = MISSING
    damaged = "pepper_damaged"

    def __init__(self, path: Path, *, given: bytes = b"", named: bool = False) -> None:
        super().__init__(path, given=given, named=named)
        self._seen: tuple[int, int, int] | None = None
        self._peppers: Peppers | None = None
        self._said = ""

    def parse(self, content: bytes) -> Peppers:
        return parse_peppers(content)

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
