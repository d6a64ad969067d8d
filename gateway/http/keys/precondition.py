"""Entity tags of keys (RFC 9110)."""

from __future__ import annotations

from gateway.access.keys.key import Key


def etag(key: Key) -> str:
    """Entity tag of a key as stored: each change of it gives another one."""
    return f'"{key.revision}"'
