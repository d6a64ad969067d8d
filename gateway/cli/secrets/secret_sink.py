"""Places where the secret of a key is put: a file, or what a command reads.

The secret is in no argument and no output: files get it whole or not at all, commands on their
standard input.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from gateway.errors import GatewayError, InvalidRequest

if TYPE_CHECKING:
    from gateway.declarations.declared import SecretPlace

COMMAND_SECONDS = 30.0
# More than a file with the secret of a key has.
_MOST_BYTES = 4096
# What a command that places a secret has no use for.
_NOT_PASSED_ON = "AUDIT_GATEWAY_KEY"


class SecretSink(Protocol):
    """Where a secret is used from."""

    def put(self, token: str) -> None:
        """Put a secret there. Raises `GatewayError` if that failed; what was there before stays
        then."""

    def held_key(self) -> str | None:
        """Id of the key whose secret is there; None where that cannot be read."""


class SecretFileSink:
    """File that is replaced as a whole: a reader finds the old secret or the new one. Durable when
    `put` returns."""

    def __init__(self, path: Path, mode: int) -> None:
        self._path = path
        self._mode = mode
        # One name, so that a run that was killed leaves no more than one.
        self._new = path.with_name(f".{path.name}.new")

    def put(self, token: str) -> None:
        try:
            self._new.unlink(missing_ok=True)
            self._write(f"{token}\n".encode())
            self._new.replace(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            with suppress(OSError):
                self._new.unlink(missing_ok=True)
            raise _not_placed(f"{self._path}: {error.strerror or error}") from None

    def held_key(self) -> str | None:
        from gateway.access.credentials.token import key_id_of

        try:
            # Neither waits for the writer of a pipe, nor reads what has no end.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                content = file.read(_MOST_BYTES)
            return key_id_of((content or b"").decode().strip()) or ""
        except (OSError, UnicodeDecodeError):
            return ""

    def _write(self, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(self._new, flags, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            with suppress(FileNotFoundError):
                before = self._path.stat()
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fchmod(descriptor, self._mode)
            os.fsync(descriptor)


class SecretCommandSink:
    """Command that reads the secret, in one line, from its standard input. It says by its exit
    code whether it has placed it, and is killed after half a minute."""

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments

    def put(self, token: str) -> None:
        environment = {name: os.environ[name] for name in os.environ if name != _NOT_PASSED_ON}
        name = self._arguments[0]
        try:
            process = subprocess.Popen(
                self._arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, env=environment, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise _not_placed(f"{name}: {error.strerror or error}") from None
        try:
            process.communicate(f"{token}\n".encode(), COMMAND_SECONDS)
        except BaseException as error:
            # Also what it has started.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise _not_placed(f"{name} did not end within {COMMAND_SECONDS:g} seconds") from None
        if process.returncode:
            raise _not_placed(f"{name} ended with the exit code {process.returncode}")

    def held_key(self) -> str | None:
        return None


def place_of(file: Path | None, mode: str, command: str | None) -> SecretSink | None:
    """The place that options name; None without any."""
    if file is not None and command is not None:
        raise click.UsageError("give either --secret-file or --secret-command")
    if command is not None:
        arguments = shlex.split(command)
        if not arguments:
            raise InvalidRequest("--secret-command: it is empty; name a program")
        return SecretCommandSink(arguments)
    if file is None:
        return None
    try:
        bits = int(mode, 8)
    except ValueError:
        bits = -1
    if not 0 <= bits <= 0o777:
        raise InvalidRequest(f"--secret-mode: {mode!r} is none; write it like 0600")
    return SecretFileSink(file, bits)


def declared_sink(place: SecretPlace) -> SecretSink:
    """The place that a declaration names."""
    # Not at the top: help is shown without what reads declarations.
    from msgspec import UNSET

    if place.file is not UNSET:
        return SecretFileSink(Path(place.file).expanduser(), int(place.mode, 8))
    return SecretCommandSink(place.command or [])


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_placed(why: str) -> GatewayError:
    return GatewayError(f"the new secret was not placed: {why}", code="secret_not_placed")
