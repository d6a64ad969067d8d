"""Signatures of Standard Webhooks 1.0. Pure.

A request has an id, which is the same when it is sent again, a time, and the HMAC-SHA-256 of id,
time and body under each secret that is valid.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from gateway.errors import InvalidRequest

PREFIX = "whsec_"
_LEAST, _MOST = 24, 64


def signing_key(secret: str) -> bytes:
    """Key of a secret. Raises `InvalidRequest`, without the secret."""
    try:
        text = secret.removeprefix(PREFIX)
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not _LEAST <= len(key) <= _MOST:
        raise InvalidRequest(
            "secrets.signing: a secret of Standard Webhooks is needed: whsec_ and then 24 to 64 "
            "bytes in base64",
            code="invalid_destination",
            path="secrets.signing",
        )
    return key


def message_id(delivery_ids: Sequence[str]) -> str:
    """Id of a request, made of the ids of its events."""
    digest = hashlib.sha256("\n".join(delivery_ids).encode()).digest()
    text = base64.b32encode(digest).decode().rstrip("=").lower()
    return f"evt_{text}" if len(delivery_ids) == 1 else f"bat_{text}"


def signature_headers(
    keys: Sequence[bytes], message: str, now: float, body: bytes
) -> dict[str, str]:
    """Headers that sign a body, by each of the keys."""
    timestamp = str(int(now))
    content = f"{message}.{timestamp}.".encode() + body
    digests = (hmac.digest(key, content, "sha256") for key in keys)
    signatures = " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
    return {
        "webhook-id": message,
        "webhook-timestamp": timestamp,
        "webhook-signature": signatures,
    }
