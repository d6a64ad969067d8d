"""Pseudonyms: values that stand for others, the same for the same within one domain. Pure.

A pseudonym is made of a value, the tenant of its event, and its `space`: the kind of its member, so
that values join where they mean the same. The key is derived from a secret and the domain, which is
that of the readers who may compare their pseudonyms. Secrets have versions; an event has the
pseudonyms of the version that held when it was recorded, however often and however late it is read.
A secret that is forgotten can never be had again, nor can its pseudonyms.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache

import msgspec

SECRET_BYTES = 32
# Pseudonyms that are kept, and the longest value of which one is.
MOST_KEPT = 65_536
LONGEST_KEPT = 256
# 128 bits; base32 takes 26 characters for them.
_BYTES, _CHARACTERS = 16, 26
PSEUDONYM_PATTERN = rf"ps[1-9][0-9]{{0,8}}_[a-z2-7]{{{_CHARACTERS}}}"
_PSEUDONYM = re.compile(PSEUDONYM_PATTERN)
# Spaces of members by the last part of their path; others have their path.
_SPACES = {"id": "id", "key_id": "id", "name": "name", "ip": "ip", "urn": "urn"}


class SecretVersion(msgspec.Struct, frozen=True):
    """One secret, which holds from a time on, in microseconds since 1970, until the next begins.
    Without the secret it was forgotten."""

    version: int
    begins: int
    secret: bytes | None

    def __repr__(self) -> str:
        return f"SecretVersion({self.version})"


class PseudonymSecrets(msgspec.Struct, frozen=True):
    """All versions, the oldest first. The first holds for whatever was recorded before it, too."""

    versions: tuple[SecretVersion, ...]

    @classmethod
    def of(cls, versions: Iterable[SecretVersion]) -> PseudonymSecrets:
        """Raises `ValueError` unless numbers and beginnings rise, from version 1 on."""
        found = tuple(versions)
        numbers = [one.version for one in found]
        begins = [one.begins for one in found]
        if not found or numbers != list(range(1, len(found) + 1)) or begins != sorted(set(begins)):
            raise ValueError("versions of pseudonyms are numbered from 1, and begin in that order")
        return cls(found)

    def at(self, recorded_at: int) -> SecretVersion:
        """The version that holds for an event recorded at this time."""
        place = bisect_right(self.versions, recorded_at, key=lambda one: one.begins)
        return self.versions[max(0, place - 1)]

    def rotated(self, secret: bytes, begins: int) -> PseudonymSecrets:
        """These and a new version, which begins later than all others."""
        begins = max(begins, self.versions[-1].begins + 1)
        return PseudonymSecrets(
            (*self.versions, SecretVersion(self.versions[-1].version + 1, begins, secret))
        )

    def without(self, version: int) -> PseudonymSecrets:
        """These with the secret of one version forgotten."""
        return PseudonymSecrets(
            tuple(
                msgspec.structs.replace(one, secret=None) if one.version == version else one
                for one in self.versions
            )
        )


def space_of(path: str) -> str:
    """Space of the values at a path of an event."""
    return _SPACES.get(path.rpartition(".")[2], path)


def version_of(pseudonym: str) -> int | None:
    """Version of a pseudonym; None if it has not the form of one."""
    if _PSEUDONYM.fullmatch(pseudonym) is None:
        return None
    return int(pseudonym[2 : pseudonym.index("_")])


class Pseudonyms:
    """Pseudonyms of one domain under the secret of one version."""

    __slots__ = ("_key", "version")

    def __init__(self, version: int, secret: bytes, domain: str) -> None:
        self.version = version
        self._key = _derived(secret, f"{version}\0{domain}".encode())

    def of(self, space: str, tenant: str, value: str) -> str:
        """Pseudonym of a value; of a number, by its digits. Spaces and tenants hold no NUL."""
        if len(value) > LONGEST_KEPT:
            return self.made(space, tenant, value)
        return _kept(self._key, self.version, space, tenant, value)

    def made(self, space: str, tenant: str, value: str) -> str:
        """The same for values that hardly come again, so that it is not kept."""
        return _pseudonym(self._key, self.version, space, tenant, value)


class PseudonymDomain:
    """Domain with all secrets: what makes the pseudonyms of its readers. Equal ones make the same.
    It shows no secret."""

    __slots__ = ("_hash", "_made", "name", "secrets")

    def __init__(self, name: str, secrets: PseudonymSecrets) -> None:
        self.name = name
        self.secrets = secrets
        self._hash = hash((name, secrets))
        self._made: dict[int, Pseudonyms] = {}

    def at(self, recorded_at: int) -> Pseudonyms | None:
        """Pseudonyms for an event recorded at this time; None if their secret is not here."""
        held = self.secrets.at(recorded_at)
        made = self._made.get(held.version)
        if made is None and held.secret is not None:
            made = self._made[held.version] = Pseudonyms(held.version, held.secret, self.name)
        return made

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, PseudonymDomain)
            and self.name == other.name
            and self.secrets == other.secrets
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"PseudonymDomain({self.name!r})"

    def __reduce__(self) -> tuple[type[PseudonymDomain], tuple[str, PseudonymSecrets]]:
        return PseudonymDomain, (self.name, self.secrets)


@lru_cache(1024)
def pseudonym_domain(name: str, held: PseudonymSecrets) -> PseudonymDomain:
    """`PseudonymDomain(name, held)`, cached, as each decision over a key asks for it."""
    return PseudonymDomain(name, held)


def _pseudonym(key: bytes, version: int, space: str, tenant: str, value: str) -> str:
    said = f"{space}\0{tenant}\0{value}".encode()
    digest = hmac.digest(key, said, hashlib.sha256)[:_BYTES]
    return f"ps{version}_{base64.b32encode(digest)[:_CHARACTERS].decode().lower()}"


# Of all domains together, as there may be as many domains as keys.
_kept = lru_cache(MOST_KEPT)(_pseudonym)


def _derived(secret: bytes, info: bytes) -> bytes:
    """HKDF with SHA-256 (RFC 5869) and no salt, for one block of output."""
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), secret, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)
