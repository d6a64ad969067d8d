"""Sealing of the secrets of destinations: AES-256-GCM under a key derived from the pepper."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.access.credentials.pepper import Pepper, Peppers
from gateway.access.credentials.sealing import derived_key, seal_bytes, unseal_bytes
from gateway.delivery.destination import Destination, SealedSecret

_FINGERPRINT_DIGITS = 12
_FOR_SEALING = b"secrets of destinations"
_FOR_FINGERPRINTS = b"fingerprints of secrets of destinations"


def seal(value: str, destination: str, name: str, pepper: Pepper, now: float) -> SealedSecret:
    """Seal a value; it opens as that secret of that destination only."""
    place = _place(destination, name)
    return SealedSecret(
        pepper=pepper.id,
        sealed=seal_bytes(value.encode(), pepper.secret, _FOR_SEALING, place),
        set_at=now,
        fingerprint=fingerprint_of(value, pepper.secret),
    )


def unseal(secret: SealedSecret, destination: str, name: str, peppers: Peppers) -> str | None:
    """The value; None if the pepper that it was sealed under is not here, or it was damaged."""
    pepper = peppers.by_id().get(secret.pepper)
    if pepper is None:
        return None
    place = _place(destination, name)
    value = unseal_bytes(secret.sealed, pepper.secret, _FOR_SEALING, place)
    return None if value is None else value.decode()


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


def fingerprint_of(value: str, pepper: bytes) -> str:
    """What tells values apart, and reveals nothing of them."""
    import hashlib
    import hmac

    key = derived_key(pepper, _FOR_FINGERPRINTS)
    return hmac.digest(key, value.encode(), hashlib.sha256).hex()[:_FINGERPRINT_DIGITS]
