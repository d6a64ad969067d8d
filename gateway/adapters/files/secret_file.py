"""Files with one secret each: read with one clear error, created at most once."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Generic, TypeVar

from gateway.errors import GatewayError

Secret = TypeVar("Secret")
BYTES = 32
_MOST_BYTES = 65_536


class SecretFile(Generic[Secret]):
    """File of a secret.

    `given`: content of the `setting` that replaces the file. `named`: the setting of the same name
    with `_file` names the file, which only its owner creates.
    """

    setting: str
    # What it is called in messages, and codes of their errors.
    called: str
    missing: str
    damaged: str

    def __init__(self, path: Path, *, given: bytes = b"", named: bool = False) -> None:
        self.path = path
        self.named = named
        self._given = self.parse(given) if given else None

    def parse(self, content: bytes) -> Secret:
        """Secret of a file's content. Raises `ValueError` with the reason."""
        raise NotImplementedError

    @property
    def place(self) -> str:
        """Name of the setting or file, for messages."""
        return str(self.path) if self._given is None else self.setting

    def content(self) -> bytes | None:
        """Content of the file; None if the setting holds the secret or the file is missing."""
        return read_secret(self.path, self.damaged) if self._given is None else None

    def find(self) -> Secret | None:
        """The secret, or None if missing. Raises `GatewayError` if the file is damaged."""
        content = self.content()
        if content is None:
            return self._given
        try:
            return self.parse(content)
        except ValueError as error:
            raise GatewayError(
                f"{self.path} is damaged ({error}); restore it from backup", code=self.damaged
            ) from None

    def read(self) -> Secret:
        """The secret. Raises `GatewayError` if it is missing or damaged."""
        found = self.find()
        if found is None:
            raise GatewayError(
                f"there is no {self.called} {self.path}; restore it from backup", code=self.missing
            )
        return found

    def make(self, content: bytes | None = None) -> Secret:
        """The secret; if missing, write this or a random one first."""
        if self.find() is None:
            make_secret(self.path, content or secrets.token_bytes(BYTES))
        return self.read()


def read_secret(path: Path, code: str) -> bytes | None:
    """Content of a secret's file; None if there is no such file.

    Raises `GatewayError` with `code` and one line if it is not a readable file.
    """
    try:
        # Opening a pipe would block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.is_symlink():
            raise GatewayError(
                f"{path} is a link to {os.readlink(path)}, which is not there; mount what it "
                "leads to, or restore it from backup",
                code=code,
            ) from None
        return None
    except OSError as error:
        raise GatewayError(
            f"{path} cannot be read: {error.strerror}; let the user of the gateway read it",
            code=code,
        ) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "no file"
            raise GatewayError(
                f"{path} is {what}; put the file with the secret there, or restore it from backup",
                code=code,
            )
        return os.read(descriptor, _MOST_BYTES)
    except OSError as error:
        raise GatewayError(f"{path} cannot be read: {error.strerror}", code=code) from None
    finally:
        os.close(descriptor)


def make_secret(path: Path, content: bytes) -> None:
    """Write a secret unless the file exists; of several processes the first one wins."""
    draft = write_draft(path, content)
    try:
        # Unlike a rename, a link never replaces an existing file.
        os.link(draft, path)
    except FileExistsError:
        pass
    except OSError as error:
        raise _not_written(path, error) from None
    finally:
        draft.unlink()


def write_draft(path: Path, content: bytes) -> Path:
    """Private temporary file beside `path` with that content, synced to disk."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _not_written(path, error) from None
    return draft


def _not_written(path: Path, error: OSError) -> GatewayError:
    return GatewayError(
        f"{path} cannot be written: {error.strerror}; choose another folder with --data",
        code="folder_unusable",
    )
