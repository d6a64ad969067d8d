"""Files with one secret each: read with one clear error, created at most once."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from gateway.errors import GatewayError

_MOST_BYTES = 65_536


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
