"""Profiles: gateways by name, with where the key for each comes from."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec

from gateway.cli.client.options import KEY_VARIABLE, check_key, read_key
from gateway.errors import InvalidRequest, NotFound

PROFILES_VARIABLE = "AUDIT_GATEWAY_PROFILES"
_FILE = "profiles.toml"
_MOST_BYTES = 256 * 1024
_MOST_KEY_BYTES = 4096
_COMMAND_SECONDS = 30
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One gateway: its address, the file of a CA that it is trusted by (the system's without it),
    and a file or a command that gives the key (the environment without either)."""

    url: str
    key_file: str | None = None
    key_command: str | list[str] | None = None
    ca: str | None = None

    def read_key(self) -> str:
        """The key, which is never an argument."""
        if self.key_command is None:
            return read_key(None if self.key_file is None else Path(self.key_file).expanduser())
        if self.key_file is not None:
            raise InvalidRequest("the profile has both key_file and key_command: leave one out")
        return check_key(_output_of(self.key_command), "what key_command printed")


def profile_of(name: str) -> Profile:
    """The profile of that name, from the file of all."""
    path = profiles_path()
    profiles = _read(path)
    if name not in profiles:
        there = ", ".join(sorted(profiles)) or "none"
        raise NotFound(
            f"there is no profile {name!r} in {path}; there are: {there}", code="unknown_profile"
        )
    try:
        return msgspec.convert(profiles[name], Profile)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{path}: [{name}] {error}") from None


def profiles_path() -> Path:
    """File of the profiles: `AUDIT_GATEWAY_PROFILES`, or one in the user's configuration."""
    named = os.environ.get(PROFILES_VARIABLE, "")
    return Path(named) if named else Path(click.get_app_dir("audit-gateway")) / _FILE


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_mode & _OTHERS:
                raise InvalidRequest(
                    f"{path} names keys and commands, and others than you can read or write it: "
                    f"run `chmod 600 {shlex.quote(str(path))}`",
                    code="profiles_readable",
                )
            if found.st_uid not in (os.geteuid(), 0):
                raise InvalidRequest(
                    f"{path} belongs to another user, who could have your commands run: run "
                    f"`chown $USER {shlex.quote(str(path))}`",
                    code="profiles_foreign",
                )
            return tomllib.loads(file.read(_MOST_BYTES).decode())
    except FileNotFoundError:
        raise NotFound(
            f"there are no profiles: {path} is not there; name another file in "
            f"{PROFILES_VARIABLE}, or the gateway by --url",
            code="no_profiles",
        ) from None
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} is no TOML: {error}") from None


def _output_of(command: str | list[str]) -> str:
    """Standard output of a command. It may ask for something: its other streams are the user's."""
    arguments = shlex.split(command) if isinstance(command, str) else command
    if not arguments:
        raise InvalidRequest("key_command: it is empty")
    try:
        done = subprocess.run(
            arguments, stdout=subprocess.PIPE, timeout=_COMMAND_SECONDS, check=False,
            env={name: text for name, text in os.environ.items() if name != KEY_VARIABLE},
        )  # fmt: skip
    except OSError as error:
        raise InvalidRequest(f"key_command: {arguments[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise InvalidRequest(
            f"key_command: {arguments[0]} printed no key within {_COMMAND_SECONDS} s"
        ) from None
    if done.returncode:
        # What it printed is not repeated: a part of it may be the key.
        raise InvalidRequest(f"key_command: {arguments[0]} ended with {done.returncode}")
    if len(done.stdout) > _MOST_KEY_BYTES:
        raise InvalidRequest(f"key_command: {arguments[0]} printed more than a key")
    return done.stdout.decode("utf-8", "replace").strip()
