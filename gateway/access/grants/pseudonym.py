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
from collections import OrderedDict
from collections.abc import Iterable

import msgspec

SECRET_BYTES = 32
MOST_KEPT = 65_536
# 128 bits; base32 takes 26 characters for them.
_BYTES, _CHARACTERS = 16, 26
_PSEUDONYM = re.compile(rf"ps([1-9]\d{{0,8}})_[a-z2-7]{{{_CHARACTERS}}}", re.ASCII)
# Spaces of members by the last part of their path; others have their path.
_SPACES = {"id": "id", "key_id": "id", "name": "name", "ip": "ip", "urn": "urn"}


class SecretVersion(msgspec.Struct, frozen=True):
    """One secret, which holds from a time on, in microseconds since 1970, until the next begins.
    Without the secret it was forgotten."""

    version: int
    begins: int
    secret: bytes | None


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
    match = _PSEUDONYM.fullmatch(pseudonym)
    return int(match[1]) if match else None


class Pseudonyms:
    """Pseudonyms of one domain under the secret of one version."""

    def __init__(self, version: int, secret: bytes, domain: str) -> None:
        self.version = version
        self._key = _derived(secret, f"{version}\0{domain}".encode())
        self._kept: OrderedDict[tuple[str, str, str], str] = OrderedDict()

    def of(self, space: str, tenant: str, value: str) -> str:
        """Pseudonym of a value; of a number, by its digits. Spaces and tenants hold no NUL. Those
        used last are kept."""
        kept, what = self._kept, (space, tenant, value)
        found = kept.get(what)
        if found is not None:
            kept.move_to_end(what)
            return found
        said = f"{space}\0{tenant}\0{value}".encode()
        digest = hmac.digest(self._key, said, hashlib.sha256)[:_BYTES]
        text = base64.b32encode(digest)[:_CHARACTERS].decode().lower()
        found = kept[what] = f"ps{self.version}_{text}"
        if len(kept) > MOST_KEPT:
            kept.popitem(last=False)
        return found


def _derived(secret: bytes, info: bytes) -> bytes:
    """HKDF with SHA-256 (RFC 5869) and no salt, for one block of output."""
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), secret, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)
