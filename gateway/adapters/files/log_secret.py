"""The secret of the log, kept beside the database so that a stolen copy of it reveals less.

It keys the values by which events are compared (`gateway.log.ports`). It never changes: events
stored under another secret would not be recognised as duplicates.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from gateway.adapters.files.secret_file import BYTES, SecretFile

MISSING = "log_secret_missing"
_HEX = re.compile(rb"[0-9a-f]{64}\n?")


def log_secret_id(secret: bytes) -> str:
    """Id of a secret: twelve hexadecimal digits of a digest that does not reveal it."""
    return hmac.digest(secret, b"log secret id", hashlib.sha256).hex()[:12]


def derived_from(pepper: bytes) -> bytes:
    """Secret of the log derived from a pepper, equal on all gateways that share the pepper."""
    return hmac.digest(pepper, b"log secret of gateways that share this pepper", hashlib.sha256)


class LogSecretFile(SecretFile[bytes]):
    """File of the secret of the log."""

    setting = "server.log_secret"
    called = "secret of the log"
    missing = MISSING
    damaged = "log_secret_damaged"

    def parse(self, content: bytes) -> bytes:
        if len(content) == BYTES:
            return content
        if not _HEX.fullmatch(content):
            raise ValueError(f"{len(content)} bytes, not {BYTES} or 64 hexadecimal digits")
        return bytes.fromhex(content.decode())
