"""Keys and roles in memory, and the decisions over them.

The store is asked for changes several times a second, so what another process
or replica changes is known here within a fraction of a second. Decisions that
do not depend on time or address are made once per key and action.
"""

from __future__ import annotations

from gateway.clock import Clock
from gateway.keys.grant import ACTIONS, Grant
from gateway.keys.key import Key
from gateway.keys.policy import (
    Allowed,
    Denied,
    decide_grants,
    decide_state,
    depends_on_circumstances,
    effective_grants,
)
from gateway.keys.role import BUILTIN
from gateway.keys.token import digest, key_id_of, same
from gateway.store.ports import KeyStore

_MOST_CACHED = 100_000
_PREDEFINED = {role.name: role.grants for role in BUILTIN.values()}


class Changes:
    """What `Keyring.refresh` found: the changed keys, and the names of the changed roles."""

    def __init__(self, keys: list[Key], roles: frozenset[str]) -> None:
        self.keys = keys
        self.roles = roles


class Keyring:
    """Finds the key of a token, and decides what it may do."""

    def __init__(self, store: KeyStore, pepper: bytes, clock: Clock) -> None:
        self._store = store
        self._pepper = pepper
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._revision = -1
        self._roles = dict(_PREDEFINED)
        self._roles_version = -1
        self._decisions: dict[tuple[str, str], Allowed | Denied] = {}
        self._dummy = digest(pepper, "")

    async def authenticate(self, token: str) -> Key | None:
        """The key of a token, whatever its state; None if there is none such.

        An unknown kid costs the same look-up and comparison as a wrong secret; what has no right
        checksum costs neither.
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
        key = self._keys.get(key_id)
        if key is None:
            key = await self._store.get(key_id)
            if key is not None:
                if len(self._keys) >= _MOST_CACHED:
                    self._forget(next(iter(self._keys)))
                self._keys[key_id] = key
        return key

    def decide(self, key: Key, action: str, address: str | None) -> Allowed | Denied:
        """Whether the key may perform the action now, from that address."""
        now = self._clock.now()
        denied = decide_state(key, now)
        if denied is not None:
            return denied
        place = (key.id, action)
        # A key that was found before it changed must not leave its decision behind.
        newest = self._keys.get(key.id) is key
        known = self._decisions.get(place) if newest else None
        if known is None:
            grants = self.grants_of(key)
            known = decide_grants(grants, action, now=now, address=address)
            if newest and not depends_on_circumstances(grants):
                self._decisions[place] = known
        return known

    def grants_of(self, key: Key) -> tuple[Grant, ...]:
        """The grants of the key, those of its roles included."""
        return effective_grants(key, self._roles)

    async def refresh(self) -> Changes:
        """Take in what has changed in the store."""
        if self._revision < 0:
            # What is read from now on is not older than this.
            self._revision = await self._store.newest_revision()
        self._revision, changed = await self._store.changed_since(self._revision)
        for key in changed:
            if key.id in self._keys:
                self._forget(key.id)
                self._keys[key.id] = key
        self._roles_version, roles = await self._store.roles_since(self._roles_version)
        for name, role in roles.items():
            self._roles[name] = () if role is None else role.grants
        if roles:
            for key in self._keys.values():
                if not roles.keys().isdisjoint(key.roles):
                    self._forget_decisions(key.id)
        return Changes(changed, frozenset(roles))

    def _forget(self, key_id: str) -> None:
        del self._keys[key_id]
        self._forget_decisions(key_id)

    def _forget_decisions(self, key_id: str) -> None:
        for action in ACTIONS:
            self._decisions.pop((key_id, action), None)
