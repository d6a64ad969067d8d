"""Keys and roles in memory, and the decisions over them.

The store is asked for changes several times a second, so what another process
or replica changes is known here within a fraction of a second. Decisions that
do not depend on time or address are made once per key and action.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from gateway.access.credentials.pepper import Peppers
from gateway.access.credentials.token import digest, key_id_of, same
from gateway.access.grants.grant import Grant
from gateway.access.grants.role import BUILTIN
from gateway.access.keys import lifecycle
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import KeysAndRoles
from gateway.access.keys.lifecycle import is_living
from gateway.access.policy.decision import (
    Allowed,
    Denied,
    decide_grants,
    decide_state,
    depends_on_circumstances,
    effective_grants,
)
from gateway.access.verified_tokens import VerifiedTokens
from gateway.clock import Clock
from gateway.errors import GatewayError

_MOST_CACHED = 100_000
_REHASH_AGAIN_SECONDS = 10.0
_LOGGER = logging.getLogger(__name__)
_PREDEFINED = {role.name: role.grants for role in BUILTIN.values()}


async def _let_fail() -> None:
    pass


class Changes(NamedTuple):
    """Changes that a refresh found: the changed keys, and the names of the changed roles."""

    keys: list[Key]
    roles: frozenset[str]


class Keyring:
    """Finds the key of a token, and decides what it may do.

    `newest_peppers` is asked whenever the store is asked for changes.
    """

    def __init__(
        self, store: KeysAndRoles, newest_peppers: Callable[[], Peppers], clock: Clock
    ) -> None:
        self._store = store
        self._newest_peppers = newest_peppers
        self._verified = VerifiedTokens()
        self._take(newest_peppers())
        # Other ones that were found in their place, and the one that is missing there.
        self._refused: Peppers | None = None
        self.missing_pepper = ""
        self._clock = clock
        self._keys: dict[str, Key] = {}
        # The ids of those that have a role, by its name.
        self._having: dict[str, set[str]] = {}
        # Of all keys there are, but those that were made since the last refresh.
        self._ids: set[str] = set()
        self._revision = -1
        self._roles = dict(_PREDEFINED)
        self._roles_version = -1
        # The store has turned out to have lost changes: what was known of these is void.
        self.keys_lost = self.roles_lost = False
        # How often that has happened.
        self.losses = 0
        # By the id of the key, and by the action.
        self._decisions: dict[str, dict[str, Allowed | Denied]] = {}
        self._dummy = digest(self._current.secret, "")
        self._rehashing: set[str] = set()
        self._rehash_from = 0.0

    def recall(self, token: str) -> Key | None:
        """The key of a token that was right before, if neither that key nor the peppers have
        changed since; else it has to be authenticated."""
        verified = self._verified.key_of(token)
        if verified is None or self._keys.get(verified.id) is not verified:
            return None
        return verified

    async def authenticate(
        self, token: str, failed: Callable[[], Awaitable[None]] = _let_fail
    ) -> Key | None:
        """The key of a token, whatever its state; None if there is none such.

        An unknown kid costs the same look-up and comparison as a wrong secret; what has no right
        checksum costs neither. A key of a former pepper moves to the current one.

        `failed` is told of a token that is wrong before the store is asked about it in vain, and
        may raise instead: without that, only keys that there are cause look-ups, until they are in
        memory. It is told of a right one, too, if that was made elsewhere a moment ago.
        """
        key_id = key_id_of(token)
        if key_id is None:
            await failed()
            return None
        known = key_id in self._keys
        expected = known or key_id in self._ids
        if not expected:
            try:
                await failed()
            except GatewayError:
                # No sooner than a known one with a wrong secret.
                self._fits(token, None)
                raise
        key = await self.get(key_id)
        if not self._fits(token, key):
            if expected:
                await failed()
            if known:
                # An unknown kid is looked up; a known one must not be told from it by the time.
                await self._store.get(key_id)
            return None
        if key is not None and (pepper := self._pepper_of.get(key.pepper)):
            if pepper.over:
                await self._rehash(key, token)
            else:
                self._verified.add(token, key)
        return key

    def _fits(self, token: str, key: Key | None) -> bool:
        """Whether it is the token of the key; takes the same time without one."""
        pepper = None if key is None else self._pepper_of.get(key.pepper)
        expected = self._dummy if key is None else key.digest
        return same(digest((pepper or self._current).secret, token), expected)

    def cached(self, key_id: str) -> Key | None:
        """The key with that id, if it is in memory."""
        return self._keys.get(key_id)

    def exists(self, key_id: str) -> bool:
        """Whether there is a key of that id, made before the last refresh."""
        return key_id in self._ids

    async def get(self, key_id: str) -> Key | None:
        """The key with that id, from memory if it is known."""
        key = self._keys.get(key_id)
        while key is None:
            seen = (self._revision, self.losses)
            key = await self._store.get(key_id)
            if key is None:
                return None
            if (self._revision, self.losses) != seen:
                # It may have changed since it was read, and nobody would tell again.
                key = self._keys.get(key_id)
                continue
            if len(self._keys) >= _MOST_CACHED:
                self._forget(next(iter(self._keys)))
            self._remember(key)
        return key

    def decide(self, key: Key, action: str, address: str | None) -> Allowed | Denied:
        """Whether the key may perform the action now, from that address."""
        now = self._clock.now()
        denied = decide_state(key, now)
        if denied is not None:
            return denied
        # A key that was found before it changed must not leave its decision behind.
        newest = self._keys.get(key.id) is key
        decided = self._decisions.get(key.id) if newest else None
        known = decided.get(action) if decided is not None else None
        if known is None:
            grants = self.grants_of(key)
            known = decide_grants(grants, action, now=now, address=address)
            if newest and not depends_on_circumstances(grants):
                self._decisions.setdefault(key.id, {})[action] = known
        return known

    def grants_of(self, key: Key) -> tuple[Grant, ...]:
        """The grants of the key, those of its roles included."""
        return effective_grants(key, self._roles)

    def depends_on_roles(self, key: Key) -> bool:
        """Whether what it may do is told by roles that can change."""
        return any(role not in BUILTIN for role in key.roles)

    async def refresh(self) -> Changes:
        """Take in what has changed in the store; one call at a time."""
        keys = await self.refresh_keys()
        roles = await self.refresh_roles()
        if self.keys_lost:
            # Unless both are read, the roles are told of once more.
            self.roles_lost = True
            keys = await self.refresh_keys()
            roles = await self.refresh_roles()
        return Changes(keys, roles)

    async def refresh_keys(self) -> list[Key]:
        """Take in the keys that have changed; one call at a time."""
        newest = self._newest_peppers()
        if newest is not self.peppers and newest is not self._refused:
            self._take_unless_needed(newest)
        if self._revision < 0:
            # What is read from now on is not older than this.
            revision = await self._store.newest_revision()
            self._ids = await self._store.ids()
            self._revision = revision
        revision, changed = await self._store.changed_since(self._revision)
        if revision < self._revision and not self.keys_lost:
            self._lose()
        if self.keys_lost:
            return await self._begin_again()
        self._revision = revision
        for key in changed:
            self._ids.add(key.id)
            if key.id in self._keys:
                self._remember(key)
        if changed and self._refused is not None:
            self._take_unless_needed(self._refused)
        return changed

    async def refresh_roles(self) -> frozenset[str]:
        """Take in the roles that have changed, and give their names; one call at a time."""
        while True:
            lost = self.roles_lost
            known = -1 if lost else self._roles_version
            version, roles = await self._store.roles_since(known)
            if version < known and not self.roles_lost:
                self._lose()
            if self.roles_lost == lost:
                break
        if lost:
            roles = {**{name: BUILTIN.get(name) for name in self._roles}, **roles}
        self._roles_version, self.roles_lost = version, False
        for name, role in roles.items():
            self._roles[name] = () if role is None else role.grants
            for key_id in self._having.get(name, ()):
                self._decisions.pop(key_id, None)
        return frozenset(roles)

    def _lose(self) -> None:
        self.keys_lost = self.roles_lost = True
        self.losses += 1

    async def _begin_again(self) -> list[Key]:
        """Forget all keys, since the store has lost changes, whose numbers others get."""
        revision = await self._store.newest_revision()
        ids = await self._store.ids()
        self._revision, self._ids, self.keys_lost = revision, ids, False
        for key_id in list(self._keys):
            self._forget(key_id)
        return []

    def _take_unless_needed(self, newest: Peppers) -> None:
        """Take these peppers, unless the current one is not among them and living keys in memory
        need it: then something else was put in their place, as no step of a rotation does, and
        every right key would be refused as wrong."""
        current, now = self._current.id, self._clock.now()
        self.missing_pepper = ""
        if current not in newest.by_id():
            needing = (key for key in self._keys.values() if key.pepper == current)
            if any(is_living(key, now) for key in needing):
                self.missing_pepper = current
        if not self.missing_pepper:
            self._refused = None
            self._take(newest)
        elif newest is not self._refused:
            self._refused = newest
            _LOGGER.warning(
                "living keys need the pepper %s, which is no longer where the peppers are: put it "
                "back; they stay as they were",
                current,
            )

    def _take(self, peppers: Peppers) -> None:
        self.peppers = peppers
        self._current = peppers.current
        self._pepper_of = peppers.by_id()
        self._verified.clear()

    async def _rehash(self, key: Key, token: str) -> None:
        """Move a key that is in use to the current pepper."""
        now = self._clock.now()
        # What ends soon, or is held back, keeps the digest that it has.
        if key.state(now) != "active" or key.throttled(now) or key.id in self._rehashing:
            return
        if self._clock.monotonic() < self._rehash_from:
            return
        pepper = self._current.secret
        self._rehashing.add(key.id)
        try:
            await self._store.change(
                key.id,
                lambda found: lifecycle.rehash(found, key, now, pepper=pepper, token=token),
            )
        except GatewayError as error:
            self._rehash_from = self._clock.monotonic() + _REHASH_AGAIN_SECONDS
            _LOGGER.warning("key %s stays with its former pepper: %s", key.id, error.detail)
        finally:
            self._rehashing.discard(key.id)

    def _remember(self, key: Key) -> None:
        if key.id in self._keys:
            self._forget(key.id)
        self._keys[key.id] = key
        self._ids.add(key.id)
        for role in key.roles:
            self._having.setdefault(role, set()).add(key.id)

    def _forget(self, key_id: str) -> None:
        self._decisions.pop(key_id, None)
        for role in set(self._keys.pop(key_id).roles):
            having = self._having[role]
            having.remove(key_id)
            if not having:
                del self._having[role]
