"""Keyring: keys and roles in memory, and decisions over them.

The store is polled several times a second, so that changes by other processes and replicas are
known within a fraction of a second. Decisions that depend on neither time nor address are cached by
key and action.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from math import inf
from typing import NamedTuple

from gateway.access.credentials.pepper import Peppers
from gateway.access.credentials.token import digest, key_id_of, same
from gateway.access.grants.grant import Grant
from gateway.access.grants.pseudonym import PseudonymSecrets, pseudonym_domain
from gateway.access.grants.role import BUILTIN
from gateway.access.keys import lifecycle, pseudonym_secrets
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
from gateway.access.policy.oracle import oracle_tenant
from gateway.access.verified_tokens import VerifiedTokens
from gateway.clock import Clock
from gateway.errors import Conflict, GatewayError

_MOST_CACHED = 100_000
_REHASH_AGAIN_SECONDS = 10.0
_CONFIRM_AGAIN_SECONDS = 0.5
_LOGGER = logging.getLogger(__name__)
_PREDEFINED = {role.name: role.grants for role in BUILTIN.values()}


async def _let_fail() -> None:
    pass


class Changes(NamedTuple):
    """Changes found by a refresh: the changed keys, and the names of the changed roles."""

    keys: list[Key]
    roles: frozenset[str]


class Keyring:
    """Finds the key of a token, and decides what it may do. `newest_peppers` is called whenever the
    store is polled."""

    def __init__(
        self, store: KeysAndRoles, newest_peppers: Callable[[], Peppers], clock: Clock
    ) -> None:
        self._store = store
        self._newest_peppers = newest_peppers
        self._verified = VerifiedTokens()
        self._take(newest_peppers())
        # Peppers found in place of these and refused, and the one that is missing there.
        self._refused: Peppers | None = None
        self.missing_pepper = ""
        self._clock = clock
        self._keys: dict[str, Key] = {}
        # Ids of the keys with a role, by its name.
        self._having: dict[str, set[str]] = {}
        # Ids of all keys as of the last refresh.
        self._ids: set[str] = set()
        self._revision = -1
        self._roles = dict(_PREDEFINED)
        self._roles_version = -1
        # Whether the store has lost changes, which voids what is known.
        self.keys_lost = self.roles_lost = False
        # How often that has happened.
        self.losses = 0
        # Secrets of pseudonyms, with the note and the peppers that they are from.
        self.pseudonyms: PseudonymSecrets | None = None
        self._pseudonyms_from: tuple[bytes | None, Peppers] = None, self.peppers
        # How often they were read, and the number of the last reading that counted.
        self._pseudonym_reads = self._last_read = 0
        # By the id of the key and the action.
        self._decisions: dict[str, dict[str, Allowed | Denied]] = {}
        self._dummy = digest(self._current.secret, "")
        self._rehashing: set[str] = set()
        self._rehash_from = 0.0
        # When the next use of a successor may confirm it.
        self._confirm_from = -inf

    def recall(self, token: str) -> Key | None:
        """Key of a token that was verified before, unless the key or the peppers have changed
        since; then the token has to be authenticated."""
        verified = self._verified.key_of(token)
        if verified is None or self._keys.get(verified.id) is not verified:
            return None
        return verified

    async def authenticate(
        self, token: str, failed: Callable[[], Awaitable[None]] = _let_fail
    ) -> Key | None:
        """Key of a token, whatever its state; None if the token is wrong.

        An unknown kid costs the same look-up and comparison as a wrong secret; a token with a wrong
        checksum costs neither. A key of a former pepper moves to the current one.

        `failed` is called for a wrong token before the store is asked in vain, and may raise
        instead, so that only existing keys cause look-ups. It is also called for the token of a key
        that was made elsewhere just now.
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
                # As slow as a known kid with a wrong secret.
                self._fits(token, None)
                raise
        key = await self.get(key_id)
        if not self._fits(token, key):
            if expected:
                await failed()
            if known:
                # Looked up like an unknown kid, so that timing does not tell them apart.
                await self._store.get(key_id)
            return None
        if key is not None and (pepper := self._pepper_of.get(key.pepper)):
            if pepper.replaced:
                await self._rehash(key, token)
            elif key.confirm_by is not None:
                await self._confirm(key)
            else:
                self._verified.add(token, key)
        return key

    def _fits(self, token: str, key: Key | None) -> bool:
        """Whether the token is that of the key; takes the same time without a key."""
        pepper = None if key is None else self._pepper_of.get(key.pepper)
        expected = self._dummy if key is None else key.digest
        return same(digest((pepper or self._current).secret, token), expected)

    def cached(self, key_id: str) -> Key | None:
        """The key with that id, if it is in memory."""
        return self._keys.get(key_id)

    def exists(self, key_id: str) -> bool:
        """Whether a key of that id was made before the last refresh."""
        return key_id in self._ids

    async def get(self, key_id: str) -> Key | None:
        """The key with that id, from memory if it is there."""
        key = self._keys.get(key_id)
        while key is None:
            seen = (self._revision, self.losses)
            key = await self._store.get(key_id)
            if key is None:
                return None
            await self._find_pseudonyms(self.grants_of(key))
            if (self._revision, self.losses) != seen:
                # It may have changed since it was read, and no refresh would tell again.
                key = self._keys.get(key_id)
                continue
            if len(self._keys) >= _MOST_CACHED:
                self._forget(next(iter(self._keys)))
            self._remember(key)
        return key

    def decide(self, key: Key, action: str, address: str | None) -> Allowed | Denied:
        """Decide whether the key may perform the action now, from that address."""
        now = self._clock.now()
        denied = decide_state(key, now)
        if denied is not None:
            return denied
        # Decisions over an outdated copy of a key are not cached.
        newest = self._keys.get(key.id) is key
        decided = self._decisions.get(key.id) if newest else None
        known = decided.get(action) if decided is not None else None
        if known is None:
            grants = self.grants_of(key)
            known = decide_grants(grants, action, now=now, address=address)
            if isinstance(known, Allowed) and known.view.pseudonymizes:
                known = self._with_domain(known, key, grants)
            if newest and not depends_on_circumstances(grants):
                self._decisions.setdefault(key.id, {})[action] = known
        return known

    def _with_domain(self, allowed: Allowed, key: Key, grants: tuple[Grant, ...]) -> Allowed:
        """The decision with the domain of the key. Without secrets, and for a key that could have
        its guesses pseudonymized as roles have changed since it was made, members are masked."""
        if self.pseudonyms is None or oracle_tenant(grants) is not None:
            return allowed
        return Allowed(allowed.view.within(pseudonym_domain(key.domain, self.pseudonyms)))

    def now(self) -> float:
        """Time of its decisions, in seconds since 1970."""
        return self._clock.now()

    def grants_of(self, key: Key) -> tuple[Grant, ...]:
        """Grants of the key, those of its roles included."""
        return effective_grants(key, self._roles)

    def depends_on_roles(self, key: Key) -> bool:
        """Whether the key has roles that can change."""
        # A stored role of an older version may have the name of a predefined one.
        return any(
            role not in BUILTIN or self._roles.get(role) is not _PREDEFINED[role]
            for role in key.roles
        )

    async def refresh(self) -> Changes:
        """Take in what has changed in the store; one call at a time."""
        keys = await self.refresh_keys()
        await self.refresh_pseudonyms()
        roles = await self.refresh_roles()
        if self.keys_lost:
            # Unless both are read, the roles are reported once more.
            self.roles_lost = True
            keys = await self.refresh_keys()
            roles = await self.refresh_roles()
        return Changes(keys, roles)

    async def refresh_keys(self) -> list[Key]:
        """Take in changed keys, and return them; one call at a time."""
        newest = self._newest_peppers()
        if newest is not self.peppers and newest is not self._refused:
            self._take_unless_needed(newest)
        if self._revision < 0:
            # Read before the ids, so that no later change is missed.
            revision = await self._store.newest_revision()
            self._ids = await self._store.ids()
            self._revision = revision
        revision, changed = await self._store.changed_since(self._revision)
        if revision < self._revision and not self.keys_lost:
            self._lose()
        if self.keys_lost:
            return await self._begin_again()
        await self._find_pseudonyms(grant for key in changed for grant in key.grants)
        self._revision = revision
        for key in changed:
            self._ids.add(key.id)
            if key.id in self._keys:
                self._remember(key)
        if changed and self._refused is not None:
            self._take_unless_needed(self._refused)
        return changed

    async def refresh_pseudonyms(self) -> None:
        """Take in changed secrets of pseudonyms. Of calls at the same time the last one counts."""
        self._pseudonym_reads += 1
        number = self._pseudonym_reads
        found = await self._store.watched_note(pseudonym_secrets.KIND, pseudonym_secrets.NAME)
        if number < self._last_read:
            return
        self._last_read = number
        if (found, self.peppers) == self._pseudonyms_from:
            return
        newest = pseudonym_secrets.opened(found, self.peppers)
        self._pseudonyms_from = found, self.peppers
        if newest != self.pseudonyms:
            self.pseudonyms = newest
            self._decisions.clear()

    async def _find_pseudonyms(self, grants: Iterable[Grant]) -> None:
        """Take in the first secrets, which are made before the grants that need them."""
        if self.pseudonyms is None and any(
            one.fields and one.fields.pseudonymize for one in grants
        ):
            await self.refresh_pseudonyms()

    async def refresh_roles(self) -> frozenset[str]:
        """Take in changed roles, and return their names; one call at a time."""
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
        await self._find_pseudonyms(
            grant for role in roles.values() if role is not None for grant in role.grants
        )
        self._roles_version, self.roles_lost = version, False
        for name, role in roles.items():
            self._roles[name] = _PREDEFINED.get(name, ()) if role is None else role.grants
            for key_id in self._having.get(name, ()):
                self._decisions.pop(key_id, None)
        return frozenset(roles)

    def _lose(self) -> None:
        self.keys_lost = self.roles_lost = True
        self.losses += 1

    async def _begin_again(self) -> list[Key]:
        """Forget all keys, as the store has lost changes and uses their revisions again."""
        revision = await self._store.newest_revision()
        ids = await self._store.ids()
        self._revision, self._ids, self.keys_lost = revision, ids, False
        for key_id in list(self._keys):
            self._forget(key_id)
        return []

    def _take_unless_needed(self, newest: Peppers) -> None:
        """Use these peppers, unless the current one is missing among them and living keys in memory
        need it: no rotation does that, so the file was replaced by mistake, and every valid key
        would be refused."""
        current, now = self._current.id, self._clock.now()
        self.missing_pepper = ""
        if current not in newest.by_id():
            needing = (key for key in self._keys.values() if key.pepper == current)
            if any(is_living(key, now) and key.person is None for key in needing):
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
        # Draining, suspended and throttled keys keep their digests.
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

    async def _confirm(self, key: Key) -> None:
        """Confirm a held rotation by the first use of the successor."""
        now = self._clock.now()
        if key.state(now) != "active" or self._clock.monotonic() < self._confirm_from:
            return
        self._confirm_from = self._clock.monotonic() + _CONFIRM_AGAIN_SECONDS
        try:
            await self._store.change_many(
                lambda keys: lifecycle.confirm(keys, key.id, now, key.id),
                among=[key.id, key.predecessor],
            )
        except Conflict:
            # Revoked meanwhile, as the next refresh tells.
            return
        except GatewayError as error:
            _LOGGER.warning("key %s is not confirmed yet: %s", key.id, error.detail)

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
