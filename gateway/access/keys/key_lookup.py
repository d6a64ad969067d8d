"""A key by its id, and the refusal where there is none such."""

from __future__ import annotations

from typing import Protocol

from gateway.access.credentials.token import is_key_id
from gateway.access.keys.key import Key
from gateway.errors import NotFound


class KeyLookup(Protocol):
    """The key store, or what has its keys in memory."""

    async def get(self, key_id: str) -> Key | None:
        """The key with that id."""


async def known_key(keys: KeyLookup, key_id: str) -> Key:
    """The key with that id, which must be there."""
    return refuse_unknown(await keys.get(key_id) if is_key_id(key_id) else None)


def refuse_unknown(key: Key | None) -> Key:
    """The key that was looked for. The refusal does not repeat what may be a whole one."""
    if key is None:
        raise NotFound(
            "there is no key with this id; `audit-gateway keys list` or GET /v1/keys shows all",
            code="unknown_key",
        )
    return key
