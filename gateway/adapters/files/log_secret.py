"""The secret of the log, kept beside the database so that a stolen copy of it reveals less.

It keys the values by which events are compared (`gateway.log.ports`). It never changes: events
stored under another secret would not be recognised as duplicates.
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
    """Id of a secret: twelve hexadecimal digits of a digest that does not reveal it."""
    return hmac.digest(secret, b"log secret id", hashlib.sha256).hex()[:12]


def derived_from(pepper: bytes) -> bytes:
    """Secret of the log derived from a pepper, equal on all gateways that share the pepper."""
    return hmac.digest(pepper, b"log secret of gateways that share this pepper", hashlib.sha256)


class LogSecretFile:
    """File of the secret of the log.

    `given`: the setting `server.log_secret`, which replaces the file. `named`: the setting
    `server.log_secret_file` names the file, which only its owner creates.
    """

    def __init__(self, path: Path, *, given: str = "", named: bool = False) -> None:
        self.path = path
        self.named = named
        self._given = given

    @property
    def place(self) -> str:
        """Name of the setting or file, for messages."""
        return "server.log_secret" if self._given else str(self.path)

    def content(self) -> bytes | None:
        """Content of the file; None if the setting holds the secret or the file is missing."""
        return None if self._given else read_secret(self.path, "log_secret_damaged")

    def find(self) -> bytes | None:
        """The secret, or None if missing. Raises `GatewayError` if the file is damaged."""
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
        """The secret. Raises `GatewayError` if it is missing or damaged."""
        found = self.find()
        if found is None:
            raise GatewayError(
                f"there is no secret of the log {self.path}; restore it from backup", code=MISSING
            )
        return found

    def make(self, secret: bytes | None = None) -> bytes:
        """The secret; if missing, write `secret` or a random one first."""
        if self.find() is None:
            make_secret(self.path, secret or secrets.token_bytes(_BYTES))
        return self.read()
