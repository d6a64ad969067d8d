"""The secret of the log: known beside the database, so that a copy of that alone tells less.

It is the key of the values by which events are compared (`gateway.log.ports`). Events that were
stored under another one would not be known again, so it never changes.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from gateway.adapters.files.secret_file import make_secret, read_secret
from gateway.errors import GatewayError

MISSING = "log_secret_missing"
_BYTES = 32
_HEX = re.compile(rb"[0-9a-f]{64}\n?")


def log_secret_id(secret: bytes) -> str:
    """Twelve hexadecimal digits that follow from the secret, and tell nothing of it."""
    return hmac.digest(secret, b"log secret id", hashlib.sha256).hex()[:12]


def derived_from(pepper: bytes) -> bytes:
    """The secret that gateways make which share a pepper, each for itself."""
    return hmac.digest(pepper, b"log secret of gateways that share this pepper", hashlib.sha256)


class LogSecretFile:
    """`given` is the setting `server.log_secret`, which takes the file's place; `named` says that
    the setting `server.log_secret_file` names the file: nobody but its owner makes it."""

    def __init__(self, path: Path, *, given: str = "", named: bool = False) -> None:
        self.path = path
        self.named = named
        self._given = given

    @property
    def place(self) -> str:
        """Where somebody has to look for it."""
        return "server.log_secret" if self._given else str(self.path)

    def content(self) -> bytes | None:
        """The file as it is; None where the setting holds the secret, or there is no file."""
        return None if self._given else read_secret(self.path, "log_secret_damaged")

    def find(self) -> bytes | None:
        """The secret; None if there is none. Raises `GatewayError` if the file is damaged."""
        if self._given:
            return bytes.fromhex(self._given)
        content = self.content()
        if content is None or len(content) == _BYTES:
            return content
        if not _HEX.fullmatch(content):
            raise GatewayError(
                f"{self.path} is damaged ({len(content)} bytes, not {_BYTES} or 64 hexadecimal "
                "digits); restore it from backup",
                code="log_secret_damaged",
            )
        return bytes.fromhex(content.decode())

    def read(self) -> bytes:
        """The secret, which has to be there."""
        found = self.find()
        if found is None:
            raise GatewayError(
                f"there is no secret of the log {self.path}; restore it from backup", code=MISSING
            )
        return found

    def make(self, secret: bytes | None = None) -> bytes:
        """The secret; it is made, by chance unless it is given here, if there is none."""
        if self.find() is None:
            make_secret(self.path, secret or secrets.token_bytes(_BYTES))
        return self.read()
