"""The file of the peppers: made at first use, and read again when it has changed."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from gateway.errors import GatewayError
from gateway.keys.pepper import BYTES, Peppers, format_peppers, parse_peppers

_LOGGER = logging.getLogger(__name__)


class PepperFile:
    """Processes of one folder share it, and each looks at it again several times a second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._peppers: Peppers | None = None
        self._said = ""

    def content(self) -> bytes:
        """The file as it is; made when it is missing, also when two processes race."""
        if not self.path.exists():
            draft = self._draft(secrets.token_bytes(BYTES))
            try:
                # Unlike a rename, a link never replaces what another process made first.
                os.link(draft, self.path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return self.path.read_bytes()

    def read(self) -> Peppers:
        """The peppers. Raises `GatewayError` if the file is damaged."""
        try:
            return parse_peppers(self.content())
        except ValueError as error:
            raise GatewayError(
                f"{self.path} is damaged ({error}); restore it from backup",
                code="pepper_damaged",
            ) from None

    def newest(self) -> Peppers:
        """The same, read only if the file has changed; as it was before if it cannot be read."""
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
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            changed = change(self.read())
            draft = self._draft(format_peppers(changed))
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

    def _draft(self, content: bytes) -> Path:
        draft = self.path.with_name(f"pepper.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return draft
