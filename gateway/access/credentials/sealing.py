"""Sealing of secrets that are stored: AES-256-GCM under a key derived from a pepper."""

from __future__ import annotations

import secrets
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.errors import Conflict

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


def seal_bytes(value: bytes, pepper: bytes, purpose: bytes, place: bytes) -> bytes:
    """Seal a value; it opens for that purpose and place only."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + _cipher(pepper, purpose).encrypt(nonce, value, place)


def unseal_bytes(sealed: bytes, pepper: bytes, purpose: bytes, place: bytes) -> bytes | None:
    """The value; None if it was sealed otherwise, or damaged."""
    if len(sealed) <= _NONCE_BYTES:
        return None
    cipher = _cipher(pepper, purpose)
    from cryptography.exceptions import InvalidTag

    try:
        return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
    except InvalidTag:
        return None


@lru_cache(8)
def derived_key(pepper: bytes, purpose: bytes) -> bytes:
    """Key for one purpose. Raises `Conflict` without the package that it needs."""
    try:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError:
        raise Conflict(
            f"{purpose.decode()} need the package cryptography: install "
            "audit-gateway[destinations]",
            code="extra_missing",
        ) from None
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(pepper)


@lru_cache(8)
def _cipher(pepper: bytes, purpose: bytes) -> AESGCM:
    key = derived_key(pepper, purpose)
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
