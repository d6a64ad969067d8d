"""Look-up of keys by id, and the error for unknown ones."""

from __future__ import annotations

from typing import Protocol

from gateway.access.credentials.token import is_key_id
from gateway.access.keys.key import Key
from gateway.errors import NotFound


class KeyLookup(Protocol):
    """Key store, or a cache of its keys."""

    async def get(self, key_id: str) -> Key | None:
        """The key with that id."""


async def known_key(keys: KeyLookup, key_id: str) -> Key:
    """The key with that id. Raises `NotFound`."""
    return refuse_unknown(await keys.get(key_id) if is_key_id(key_id) else None)


def refuse_unknown(key: Key | None) -> Key:
    """Raise `NotFound` for no key. The id is not repeated, as it may be a whole token."""
    if key is None:
        raise NotFound(
            "there is no key with this id; `audit-gateway keys list` or GET /v1/keys shows all",
            code="unknown_key",
        )
    return key
