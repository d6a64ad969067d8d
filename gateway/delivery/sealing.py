"""Sealing of the secrets of destinations: AES-256-GCM under a key derived from the pepper."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.access.credentials.pepper import Pepper, Peppers
from gateway.delivery.destination import Destination, SealedSecret
from gateway.errors import Conflict

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12
_FINGERPRINT_DIGITS = 12
_FOR_SEALING = b"secrets of destinations"
_FOR_FINGERPRINTS = b"fingerprints of secrets of destinations"


def seal(value: str, destination: str, name: str, pepper: Pepper, now: float) -> SealedSecret:
    """Seal a value; it opens as that secret of that destination only."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = _cipher(pepper.secret).encrypt(nonce, value.encode(), _place(destination, name))
    return SealedSecret(
        pepper=pepper.id,
        sealed=nonce + sealed,
        set_at=now,
        fingerprint=_fingerprint(value, pepper.secret),
    )


def unseal(secret: SealedSecret, destination: str, name: str, peppers: Peppers) -> str | None:
    """The value; None if the pepper that it was sealed under is not here, or it was damaged."""
    from cryptography.exceptions import InvalidTag

    pepper = peppers.by_id().get(secret.pepper)
    if pepper is None:
        return None
    nonce, sealed = secret.sealed[:_NONCE_BYTES], secret.sealed[_NONCE_BYTES:]
    try:
        value = _cipher(pepper.secret).decrypt(nonce, sealed, _place(destination, name))
    except InvalidTag:
        return None
    return value.decode()


def resealed(destination: Destination, peppers: Peppers) -> Destination:
    """The destination with all its secrets under the current pepper; itself if they are."""
    from msgspec.structs import replace

    current = peppers.current
    after: dict[str, tuple[SealedSecret, ...]] = {}
    for name, values in destination.secrets.items():
        after[name] = tuple(
            _resealed(one, destination.name, name, peppers, current) for one in values
        )
    return destination if after == destination.secrets else replace(destination, secrets=after)


def needed_peppers(secrets_of: Mapping[str, tuple[SealedSecret, ...]]) -> set[str]:
    """Ids of the peppers that secrets are sealed under."""
    return {one.pepper for values in secrets_of.values() for one in values}


def _resealed(
    secret: SealedSecret, destination: str, name: str, peppers: Peppers, current: Pepper
) -> SealedSecret:
    if secret.pepper == current.id:
        return secret
    value = unseal(secret, destination, name, peppers)
    if value is None:
        return secret
    from msgspec.structs import replace

    made = seal(value, destination, name, current, secret.set_at)
    return replace(made, until=secret.until)


def _place(destination: str, name: str) -> bytes:
    return f"{destination}/{name}".encode()


@lru_cache(8)
def _derived(pepper: bytes, info: bytes) -> bytes:
    try:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError:
        raise Conflict(
            "secrets of destinations need the package cryptography: install "
            "audit-gateway[destinations]",
            code="extra_missing",
        ) from None
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(pepper)


@lru_cache(8)
def _cipher(pepper: bytes) -> AESGCM:
    key = _derived(pepper, _FOR_SEALING)
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _fingerprint(value: str, pepper: bytes) -> str:
    import hashlib
    import hmac

    key = _derived(pepper, _FOR_FINGERPRINTS)
    return hmac.digest(key, value.encode(), hashlib.sha256).hex()[:_FINGERPRINT_DIGITS]
