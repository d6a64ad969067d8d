"""Keyed values that tell whether an event is in the log already.

Beside each event stand two values made with the secret of the log: one of its
tenant and id, one of its content. Who holds the database alone can check no
guess about either. Both are 16 bytes.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b32encode

_BYTES = 16
_BLOCK = 64
_MOST_TENANTS = 10_000
_KEPT_OF_ID = 100
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_MOST_DIGITS = 15


class KeyedValues:
    """HMAC-SHA-256 with one secret, prepared once."""

    def __init__(self, secret: bytes) -> None:
        key = (secret if len(secret) <= _BLOCK else hashlib.sha256(secret).digest()).ljust(
            _BLOCK, b"\0"
        )
        inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key))
        self._of_id, self._of_tenant, self._of_content = inner.copy(), inner.copy(), inner
        self._of_id.update(b"id\0")
        self._of_tenant.update(b"tenant\0")
        self._of_content.update(b"content\0")
        self._tenants: dict[str, int] = {}

    def key(self, tenant: str, event_id: str) -> bytes:
        """The value of tenant and id. Its first half is of the id alone, so that an id can be
        found whatever its tenant."""
        digest = self._keyed(self._of_id, event_id.encode())
        mixed = int.from_bytes(digest[8:16], "big") ^ self._tenant(tenant)
        return digest[:8] + mixed.to_bytes(8, "big")

    def range_of_id(self, event_id: str) -> tuple[bytes, bytes]:
        """The least and the greatest value that an id has in any tenant."""
        half = self._keyed(self._of_id, event_id.encode())[:8]
        return half + bytes(8), half + b"\xff" * 8

    def content(self, digest: bytes) -> bytes | None:
        """The value of a content, by its digest; None where the id alone decides."""
        return self._keyed(self._of_content, digest)[:_BYTES] if digest else None

    def _tenant(self, tenant: str) -> int:
        known = self._tenants.get(tenant)
        if known is None:
            if len(self._tenants) >= _MOST_TENANTS:
                self._tenants.clear()
            digest = self._keyed(self._of_tenant, tenant.encode())
            known = self._tenants[tenant] = int.from_bytes(digest[:8], "big")
        return known

    def _keyed(self, prepared: hashlib._Hash, message: bytes) -> bytes:
        inner, outer = prepared.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


def other_id(sent: str, content: bytes) -> str:
    """The id of an event whose own is taken by an event with other content."""
    return f"{sent[:_KEPT_OF_ID]}~{b32encode(content[:10]).decode()}"


def near(event_id: str) -> int:
    """What brings ids that were made one after the other together in an index: the time in a
    UUID of version 7, or the number at the end of any other id."""
    if len(event_id) == 36 and event_id[14] == "7" and _UUID7.fullmatch(event_id):
        return int(event_id[:8] + event_id[9:13], 16)
    digits = event_id[len(event_id.rstrip("0123456789")) :][-_MOST_DIGITS:]
    return int(digits) if digits else 0
