"""Stored form of the secrets of pseudonyms: one note, in which each is sealed under a pepper. Pure.

Each function that changes it returns a `Noting` for `Notes.update_notes`, so that of several
processes that make the first secret at once one is right for all.
"""

from __future__ import annotations

import secrets

import msgspec

from gateway.access.credentials.pepper import Peppers, pepper_id
from gateway.access.credentials.sealing import seal_bytes, unseal_bytes
from gateway.access.grants.pseudonym import SECRET_BYTES, PseudonymSecrets, SecretVersion
from gateway.access.keys.key_store import Noting
from gateway.errors import Conflict, GatewayError, NotFound

KIND, NAME = "pseudonyms", "secrets"
# A new version begins so much later: by then every process knows it.
LEARN_MICROS = 10_000_000
_PURPOSE = b"secrets of pseudonyms"


class _SealedVersion(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version as it is stored; forgotten, if nothing is sealed."""

    version: int
    begins: int
    pepper: str = ""
    sealed: bytes = b""


_DECODE = msgspec.json.Decoder(tuple[_SealedVersion, ...]).decode
_ENCODE = msgspec.json.Encoder().encode


class VersionStanding(msgspec.Struct, frozen=True):
    """One version, as it is shown: when it begins (microseconds since 1970), whether it is
    forgotten, and the id of the pepper that it is sealed under."""

    version: int
    begins: int
    forgotten: bool
    pepper: str


def opened(document: bytes | None, peppers: Peppers) -> PseudonymSecrets | None:
    """All secrets; None if there never was one. One that no pepper here opens is like a forgotten
    one."""
    if not document:
        return None
    return PseudonymSecrets.of(
        SecretVersion(one.version, one.begins, _unsealed(one, peppers)) for one in _DECODE(document)
    )


def standings(document: bytes | None) -> list[VersionStanding]:
    """All versions, oldest first, without their secrets."""
    return [
        VersionStanding(one.version, one.begins, not one.sealed, one.pepper)
        for one in (_DECODE(document) if document else ())
    ]


def begun(pepper: bytes) -> Noting:
    """The first version, which holds from the beginning, unless there is one."""

    return lambda document: document or _first(pepper)


def rotated(pepper: bytes, now_micros: int) -> Noting:
    """A new version, which begins soon; or the first, at once."""

    def rotate(document: bytes | None) -> bytes:
        if not document:
            return _first(pepper)
        before = _DECODE(document)
        begins = max(now_micros + LEARN_MICROS, before[-1].begins + 1)
        secret = secrets.token_bytes(SECRET_BYTES)
        return _ENCODE((*before, _sealed(before[-1].version + 1, begins, secret, pepper)))

    return rotate


def forgotten(version: int, now_micros: int) -> Noting:
    """Without the secret of a version that has ended. Raises `NotFound`, or `Conflict` if it has
    not."""

    def forget(document: bytes | None) -> bytes:
        before = _DECODE(document or b"[]")
        if not 1 <= version <= len(before):
            raise NotFound(f"there is no version {version} of pseudonyms", code="unknown_version")
        if version == len(before) or before[version].begins > now_micros:
            raise Conflict(
                f"version {version} of pseudonyms is in use; `audit-gateway pseudonyms rotate` "
                "begins another, and this one can be forgotten some seconds later",
                code="version_in_use",
            )
        return _ENCODE(
            [
                _SealedVersion(one.version, one.begins) if one.version == version else one
                for one in before
            ]
        )

    return forget


def resealed(peppers: Peppers) -> Noting:
    """All secrets under the current pepper, as far as they can be opened."""

    def reseal(document: bytes | None) -> bytes | None:
        if not document:
            return document
        return _ENCODE([_resealed(one, peppers) for one in _DECODE(document)])

    return reseal


def _first(pepper: bytes) -> bytes:
    return _ENCODE((_sealed(1, 0, secrets.token_bytes(SECRET_BYTES), pepper),))


def _sealed(version: int, begins: int, secret: bytes, pepper: bytes) -> _SealedVersion:
    sealed = seal_bytes(secret, pepper, _PURPOSE, str(version).encode())
    return _SealedVersion(version, begins, pepper_id(pepper), sealed)


def _unsealed(one: _SealedVersion, peppers: Peppers) -> bytes | None:
    pepper = peppers.by_id().get(one.pepper) if one.sealed else None
    if pepper is None:
        return None
    try:
        return unseal_bytes(one.sealed, pepper.secret, _PURPOSE, str(one.version).encode())
    except GatewayError:
        # A package is missing here, which whoever makes secrets is told.
        return None


def _resealed(one: _SealedVersion, peppers: Peppers) -> _SealedVersion:
    current = peppers.current
    secret = None if one.pepper == current.id else _unsealed(one, peppers)
    return one if secret is None else _sealed(one.version, one.begins, secret, current.secret)
