"""The data folder: its files, and the lock on its log.

<data>/log.db    the event log (one writing process at a time, held by a lock)
<data>/keys.db   the provisioning keys (any process may write)
<data>/consumers.db  the positions of durable consumers (any process may write)
<data>/destinations.db  the destinations with sealed secrets (any process may write)
<data>/pepper    the secrets of the key digests; without them no key of this folder works
<data>/log-secret    the secret of the log, which keys the comparison of events; never changes
<data>/first-admin-key   the key made at the first start, until somebody removes it
<data>/writer.sock   with several workers: socket through which they append
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from pathlib import Path

from gateway.access.credentials.pepper import lines_of
from gateway.adapters.files.log_secret import LogSecretFile
from gateway.adapters.files.pepper_file import PepperFile
from gateway.errors import FolderLocked, GatewayError
from gateway.settings.declarations import Settings
from gateway.settings.server import ServerSettings

_LOGGER = logging.getLogger(__name__)


class DataFolder:
    """Paths within one data folder; created, private to its user, if missing.

    `server`: settings that may place the secrets elsewhere.
    """

    def __init__(self, path: Path, server: ServerSettings | None = None) -> None:
        self.path = path
        self._server = server or ServerSettings()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise GatewayError(
                f"cannot make the data folder {path}: {error.strerror}; choose another with --data",
                code="folder_unusable",
            ) from None

    @classmethod
    def of(cls, settings: Settings) -> DataFolder:
        """Data folder of these settings, with its secrets where they say."""
        return cls(settings.data, settings.server)

    def warn_if_open(self) -> None:
        """Warn if other users can list the folder; its files are private all the same."""
        mode = stat.S_IMODE(self.path.stat().st_mode)
        if mode & 0o077:
            _LOGGER.warning(
                "others can look into the data folder %s (mode %03o); its files are private, and "
                "chmod 700 would make it so, too", self.path, mode,
            )  # fmt: skip
        for name in ("pepper", "log-secret", "first-admin-key"):
            _keep_private(self.path / name)

    @property
    def keys(self) -> Path:
        return self.path / "keys.db"

    @property
    def consumers(self) -> Path:
        return self.path / "consumers.db"

    @property
    def destinations(self) -> Path:
        return self.path / "destinations.db"

    @property
    def writer_socket(self) -> Path:
        return self.path / "writer.sock"

    def keep_first_key(self, token: str) -> Path:
        """Write the first key into a file that only its owner can read; return its path."""
        # Do not follow a link of that name.
        path = self.path.resolve() / "first-admin-key"
        try:
            # A file left there may be readable for others.
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{token}\n")
        except OSError as error:
            raise GatewayError(
                f"the first admin key cannot be written to {path}: {error.strerror}; make another "
                "with `audit-gateway keys create`",
                code="folder_unusable",
            ) from None
        return path

    @property
    def peppers(self) -> PepperFile:
        """File or setting with the peppers of the key digests."""
        named = self._server.pepper_file
        return PepperFile(
            Path(named) if named else self.path / "pepper",
            given=lines_of(self._server.pepper),
            named=bool(named),
        )

    @property
    def log_secret_file(self) -> LogSecretFile:
        """File or setting with the secret of the log."""
        named = self._server.log_secret_file
        return LogSecretFile(
            Path(named) if named else self.path / "log-secret",
            given=self._server.log_secret.encode(),
            named=bool(named),
        )

    def log_secret(self) -> bytes:
        """Secret of the log: 32 bytes, kept apart from the database, never rotated, part of the
        backup. `agree_on_secrets` creates it and keeps it equal on all gateways.

        Raises `GatewayError` if it is missing.
        """
        return self.log_secret_file.read()


def _keep_private(path: Path) -> None:
    """Make an existing secret unreadable for other users."""
    try:
        if not stat.S_IMODE(path.stat().st_mode) & 0o077:
            return
    except OSError:
        # Missing: whoever reads the secret reports it.
        return
    try:
        path.chmod(0o600)
    except OSError as error:
        _LOGGER.warning(
            "%s can be read by others, and stays so (%s): mount it with the mode 400",
            path, error.strerror,
        )  # fmt: skip
    else:
        _LOGGER.warning("%s could be read by others; from now on it cannot", path)


class WriterLock:
    """The right to append to a log file: an advisory lock that dies with its process."""

    def __init__(self, log: Path) -> None:
        path = log.with_name(log.name + ".lock")
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise GatewayError(
                f"cannot write {path}: {error.strerror}; choose another folder with --data",
                code="folder_unusable",
            ) from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise FolderLocked(
                f"{log} is being written by another process"
                + (f" (pid {holder})" if holder else "")
                + "; stop it, or choose another folder with --data"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._descriptor)
