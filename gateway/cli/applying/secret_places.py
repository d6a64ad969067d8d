"""Places of secrets where `apply` runs: where those of keys are put, and those of destinations
read. No secret is an argument, a variable or output."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UNSET

from gateway.cli.client.options import KEY_VARIABLE
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.declarations.declared import SecretPlace, SecretSource

_COMMAND_SECONDS = 30
_MOST_BYTES = 64 * 1024


def place(secret: str, where: SecretPlace) -> None:
    """Put the secret of a key where it is declared to be. Raises `GatewayError`, which never has
    the secret."""
    if where.file is not UNSET:
        _write(Path(where.file).expanduser(), secret, int(where.mode, 8))
    elif where.command is not UNSET:
        _run(where.command, secret)


def holds(where: SecretPlace, key_id: str) -> bool:
    """Whether a place has the secret of that key, as far as can be told: commands are not asked."""
    if where.file is UNSET:
        return True
    try:
        with Path(where.file).expanduser().open("rb") as file:
            return file.read(_MOST_BYTES).startswith(b"alpk_%b_" % key_id.encode())
    except OSError:
        return False


def read(source: SecretSource, name: str) -> str:
    """Secret of a destination. Raises `GatewayError` that names it."""
    if source.env is not UNSET:
        value = os.environ.get(source.env, "")
    elif source.file is not UNSET:
        try:
            with Path(source.file).expanduser().open("rb") as file:
                value = file.read(_MOST_BYTES).decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise GatewayError(f"{name}: {source.file} cannot be read: {_why(error)}") from None
    else:
        value = _run(source.command or [], None).rstrip("\r\n")
    if not value:
        raise GatewayError(f"{name}: it is empty where it is declared to be")
    return value


def _write(path: Path, secret: str, mode: int) -> None:
    """Replace a file in one step: whoever reads it has the old secret or the new one."""
    made = ""
    try:
        descriptor, made = tempfile.mkstemp(prefix=".", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), mode)
            file.write(f"{secret}\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(made, path)
        made = ""
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise GatewayError(f"{path} cannot be written: {_why(error)}") from None
    finally:
        if made:
            os.unlink(made)


def _run(command: list[str], given: str | None) -> str:
    """Standard output of a command, with something on its standard input. What it says is not
    repeated: it may be the secret."""
    name = command[0] if command else ""
    try:
        done = subprocess.run(
            command, input=None if given is None else f"{given}\n", stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL if given is None else None, stderr=subprocess.DEVNULL,
            timeout=_COMMAND_SECONDS, check=False, text=True,
            env={key: text for key, text in os.environ.items() if key != KEY_VARIABLE},
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise GatewayError(f"{name}: {_why(error)}") from None
    except subprocess.TimeoutExpired:
        raise GatewayError(f"{name} was not done within {_COMMAND_SECONDS} s") from None
    if done.returncode:
        raise GatewayError(f"{name} ended with {done.returncode}")
    return done.stdout


def _why(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
