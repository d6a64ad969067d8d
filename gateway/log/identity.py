"""Keyed values that tell whether an event is in the log already.

Two values are stored beside each event, made with the secret of the log: one of its tenant and id,
one of its content. The database alone lets nobody check a guess about either. Both are 16 bytes.
"""

from __future__ import annotations

import hashlib
from base64 import b32encode
from collections.abc import Sequence

from gateway.event import Draft

_BYTES = 16
_MOST_TENANTS = 10_000
_KEPT_OF_ID = 100
_MOST_DIGITS = 15


class KeyedValues:
    """Keyed BLAKE2b with one secret, prepared once: a message authentication code by itself, and
    faster than HMAC."""

    def __init__(self, secret: bytes) -> None:
        self._of_id, self._of_tenant, self._of_content = (
            hashlib.blake2b(digest_size=_BYTES, key=hashlib.blake2b(secret, person=use).digest())
            for use in (b"id", b"tenant", b"content")
        )
        self._tenants: dict[str, int] = {}

    def key(self, tenant: str, event_id: str) -> bytes:
        """Value of tenant and id. Its first half is of the id alone, so that an id can be found
        whatever its tenant."""
        keyed = self._of_id.copy()
        keyed.update(event_id.encode())
        mixed = int.from_bytes(keyed.digest(), "big") ^ self._tenant(tenant)
        return mixed.to_bytes(_BYTES, "big")

    def keys(self, drafts: Sequence[Draft]) -> list[bytes]:
        """Values of tenant and id of drafts, faster than one by one."""
        empty, tenant = self._of_id.copy, self._tenant
        digests, tenants = [], []
        for draft in drafts:
            keyed = empty()
            keyed.update(draft.id.encode())
            digests.append(keyed.digest())
            tenants.append(tenant(draft.tenant))
        if len(set(tenants)) == 1:
            of_tenants = tenants[0].to_bytes(_BYTES, "big") * len(tenants)
        else:
            of_tenants = b"".join([one.to_bytes(_BYTES, "big") for one in tenants])
        whole = int.from_bytes(b"".join(digests), "big") ^ int.from_bytes(of_tenants, "big")
        mixed = whole.to_bytes(len(of_tenants), "big")
        return [mixed[at : at + _BYTES] for at in range(0, len(mixed), _BYTES)]

    def contents(self, drafts: Sequence[Draft]) -> list[bytes | None]:
        """Values of the contents of drafts; None where the id alone decides."""
        empty = self._of_content.copy
        values: list[bytes | None] = []
        for draft in drafts:
            digest = draft.content
            if not digest:
                values.append(None)
                continue
            keyed = empty()
            keyed.update(digest)
            values.append(keyed.digest())
        return values

    def range_of_id(self, event_id: str) -> tuple[bytes, bytes]:
        """Least and greatest value of an id in any tenant."""
        keyed = self._of_id.copy()
        keyed.update(event_id.encode())
        half = keyed.digest()[:8]
        return half + bytes(8), half + b"\xff" * 8

    def content(self, digest: bytes) -> bytes | None:
        """Value of a content, by its digest; None where the id alone decides."""
        if not digest:
            return None
        keyed = self._of_content.copy()
        keyed.update(digest)
        return keyed.digest()

    def _tenant(self, tenant: str) -> int:
        known = self._tenants.get(tenant)
        if known is None:
            if len(self._tenants) >= _MOST_TENANTS:
                self._tenants.clear()
            keyed = self._of_tenant.copy()
            keyed.update(tenant.encode())
            known = self._tenants[tenant] = int.from_bytes(keyed.digest()[:8], "big")
        return known


def other_id(sent: str, content: bytes) -> str:
    """Id of an event whose own is taken by an event with other content."""
    mark = content
    if len(sent) > _KEPT_OF_ID:
        # Thousands of ids with this prefix may have been sent with the same content.
        mark = hashlib.sha256(sent.encode() + content).digest()
    return f"{sent[:_KEPT_OF_ID]}~{b32encode(mark[:10]).decode()}"


def near(event_id: str) -> int:
    """Number that keeps ids made one after the other together in an index: the time in a UUID of
    version 7, or the number at the end of any other id."""
    if len(event_id) == 36 and event_id[14] == "7":
        try:
            return int(event_id[:8] + event_id[9:13], 16)
        except ValueError:
            # Another kind of id of that length.
            pass
    digits = event_id[len(event_id.rstrip("0123456789")) :][-_MOST_DIGITS:]
    return int(digits) if digits else 0
