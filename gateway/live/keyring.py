"""Keys in memory, and the watch that ends the streams of keys that may no longer have them.

The store is asked for changes several times a second, so a key that another
process or replica revoked is refused, and its streams end, within a second.
"""

from __future__ import annotations

import logging

from gateway.clock import Clock
from gateway.encode.wire import KEY_EXPIRED, KEY_REVOKED, NOT_GRANTED
from gateway.errors import GatewayError
from gateway.keys.key import Key
from gateway.keys.policy import EXPIRED, REVOKED, Denied, decide
from gateway.keys.token import digest, key_id_of, same
from gateway.live.hub import Hub
from gateway.store.ports import KeyStore

_LOOK_SECONDS = 0.25
_MOST_CACHED = 100_000
_LOGGER = logging.getLogger(__name__)
_ENDS = {REVOKED: KEY_REVOKED, EXPIRED: KEY_EXPIRED}


class Keyring:
    """Finds the key of a token, and knows every key that is in use."""

    def __init__(self, store: KeyStore, pepper: bytes, clock: Clock) -> None:
        self._store = store
        self._pepper = pepper
        self._clock = clock
        self._cache: dict[str, Key] = {}
        self._revision = 0
        self._dummy = digest(pepper, "")

    async def authenticate(self, token: str) -> Key | None:
        """The key of a token, whatever its state; None if there is none such.

        An unknown kid costs the same comparison as a wrong secret.
        """
        key_id = key_id_of(token)
        if key_id is None:
            return None
        key = await self.get(key_id)
        expected = self._dummy if key is None else key.digest
        matches = same(digest(self._pepper, token), expected)
        return key if matches else None

    async def get(self, key_id: str) -> Key | None:
        """The key with that id, from memory if it is known."""
        key = self._cache.get(key_id)
        if key is None:
            key = await self._store.get(key_id)
            if key is not None:
                if len(self._cache) >= _MOST_CACHED:
                    self._cache.pop(next(iter(self._cache)))
                self._cache[key_id] = key
        return key

    async def refresh(self) -> list[Key]:
        """Take in what has changed in the store; returns the changed keys."""
        self._revision, changed = await self._store.changed_since(self._revision)
        for key in changed:
            if key.id in self._cache:
                self._cache[key.id] = key
        return changed


class KeyWatch:
    """Ends streams whose key was revoked, has expired, or no longer allows them."""

    def __init__(self, keyring: Keyring, hub: Hub, clock: Clock) -> None:
        self._keyring = keyring
        self._hub = hub
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except GatewayError as error:
                _LOGGER.warning("keys cannot be read, trying again: %s", error.detail)
            await self._clock.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """One look at all keys that have streams."""
        await self._keyring.refresh()
        now = self._clock.now()
        for key_id in self._hub.key_ids():
            key = await self._keyring.get(key_id)
            decision = REVOKED if key is None else decide(key, "stream", now)
            if isinstance(decision, Denied):
                for subscription in self._hub.streams_of(key_id):
                    self._hub.end(subscription, _ENDS.get(decision, NOT_GRANTED))
