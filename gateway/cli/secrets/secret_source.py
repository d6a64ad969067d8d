"""Secrets of destinations, read where a command runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UNSET

from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.declarations.declared import SecretSource

_COMMAND_SECONDS = 30
_MOST_BYTES = 64 * 1024
# What a command that prints a secret has no use for.
_NOT_PASSED_ON = "AUDIT_GATEWAY_KEY"


def read_secret(source: SecretSource, name: str) -> str:
    """Secret of a destination. Raises `GatewayError` that names it."""
    if source.env is not UNSET:
        value = os.environ.get(source.env, "")
    elif source.file is not UNSET:
        try:
            with Path(source.file).expanduser().open("rb") as file:
                value = file.read(_MOST_BYTES).decode().rstrip("\r\n")
        except OSError as error:
            raise GatewayError(f"{name}: {source.file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise GatewayError(f"{name}: {source.file} is no text") from None
    else:
        value = _printed(source.command or [], name)
    if not value:
        raise GatewayError(f"{name}: it is empty where it is declared to be")
    return value


def _printed(command: list[str], name: str) -> str:
    """What a command prints. Errors do not repeat it: a part of it may be the secret."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False,
            timeout=_COMMAND_SECONDS,
            env={one: text for one, text in os.environ.items() if one != _NOT_PASSED_ON},
        )  # fmt: skip
    except OSError as error:
        raise GatewayError(f"{name}: {command[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise GatewayError(
            f"{name}: {command[0]} printed nothing within {_COMMAND_SECONDS} s"
        ) from None
    if done.returncode:
        raise GatewayError(f"{name}: {command[0]} ended with {done.returncode}")
    return done.stdout.decode("utf-8", "replace").rstrip("\r\n")
