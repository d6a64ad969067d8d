"""Use cases of keys and roles: each makes one change, or is refused and changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import Any

import msgspec
from msgspec import structs

from gateway.access.administration.answers import IssuedKey, Revocation
from gateway.access.administration.attempts import MOST_ATTEMPTS, decided_anew
from gateway.access.administration.caller import Caller
from gateway.access.administration.key_patch import KeyCheck, KeyPatchBody, patched, widens
from gateway.access.administration.role_lookup import combined_grants, unknown_role
from gateway.access.credentials.token import is_key_id
from gateway.access.grants.grant import Grant
from gateway.access.grants.role import BUILTIN, Role, grants_of_roles
from gateway.access.keys import lifecycle, pseudonym_secrets
from gateway.access.keys.change import other_change
from gateway.access.keys.descent import Descent, can_issue_keys, revoke_with_descendants
from gateway.access.keys.issuance import IssuanceTerms, KeyRequest, key_from_request
from gateway.access.keys.key import Key
from gateway.access.keys.key_limits import inherited
from gateway.access.keys.key_lookup import known_key, refuse_unknown
from gateway.access.keys.key_store import PART_KEYS, KeysAndRoles, Noting, RoleCheck
from gateway.access.keys.operator import actor_name, operator_of
from gateway.access.keys.pseudonym_secrets import VersionStanding
from gateway.access.keys.rotation_schedule import DEFAULT_OVERLAP
from gateway.access.keys.unreadable import check_readable
from gateway.access.policy.decision import effective_grants
from gateway.access.policy.oracle import refuse_oracle
from gateway.clock import Clock
from gateway.errors import ChangedMeanwhile, Conflict, Forbidden
from gateway.scheduling.loop_work import Slices
from gateway.tracing.spans import within

# Where a key stands in an order, before its id.
Place = tuple[Any, str]
KeyPlace = Callable[[Key], Place | None]
# Memory for each key while they are sorted.
_PLACE_BYTES = 160


def by_age(key: Key) -> Place:
    """Place of a key in the order oldest first."""
    return key.created_at, key.id


class Administration:
    """Administration of one store by one caller. `pepper` returns the current one."""

    def __init__(
        self,
        caller: Caller,
        store: KeysAndRoles,
        clock: Clock,
        terms: IssuanceTerms,
        pepper: Callable[[], Awaitable[bytes]],
        slices: Slices,
    ) -> None:
        self._caller = caller
        self._store = store
        self._clock = clock
        self._terms = terms
        self.pepper = pepper
        self._slices = slices

    def now(self) -> float:
        """Trusted time."""
        return self._clock.now()

    # Keys

    async def create(self, request: KeyRequest) -> IssuedKey:
        """Issue a key."""
        if request.copy_of:
            original = await known_key(self._store, request.copy_of)
            check_readable(original)
            request = request.taken_from(original)
        key, token = key_from_request(
            request, now=self._clock.now(), max_life=self._terms.max_life,
            pepper=await self.pepper(), by=self._caller.by,
        )  # fmt: skip
        roles = await self.all_roles()
        combined_grants(key.grants, key.roles, grants_of_roles(roles))
        key = msgspec.structs.replace(
            key, limits=inherited(self._caller.limits, key.limits),
            created_by_name=self._caller.person,
        )  # fmt: skip
        roles = await self._check_delegation(key, roles)
        if key.shared_domain:
            await self.check_domain(key.shared_domain, roles)
        grants = effective_grants(key, grants_of_roles(roles))
        refuse_oracle(grants, "this key")
        can_issue = can_issue_keys(grants)
        key, cut = self._caller.limit_life(key, given=request.expiry_given, can_issue=can_issue)
        await self._caller.recheck()
        await self.begin_pseudonyms(grants)
        await self._store.create(key)
        return IssuedKey(await self._stored(key.id), token, cut)

    async def rotate(self, key_id: str, overlap: object = None, *, hold: bool = False) -> IssuedKey:
        """Issue a successor with the same rights; the key itself drains for the overlap, by default
        that of its schedule. With `hold` it does from when the successor is confirmed."""
        if overlap is not None:
            lifecycle.check_overlap(overlap, self._terms.max_overlap)
        with within("key.rotate"):
            return await decided_anew(lambda: self._rotate(key_id, overlap, hold))

    async def _rotate(self, key_id: str, overlap: object, hold: bool) -> IssuedKey:
        key, by = await known_key(self._store, key_id), self._caller.by
        await self._refuse_held(key)
        if overlap is None:
            overlap = DEFAULT_OVERLAP if key.rotate is None else key.rotate.overlap
        seconds = lifecycle.check_overlap(overlap, self._terms.max_overlap)
        roles = await self._check_delegation(key, await self.all_roles())
        old, successor, token = lifecycle.rotate(
            key, self._clock.now(), overlap=seconds, max_life=self._terms.max_life,
            pepper=await self.pepper(), by=by, hold=hold,
        )  # fmt: skip
        successor = msgspec.structs.replace(
            successor, created_by=actor_name(by), created_by_name=self._caller.person
        )
        can_issue = can_issue_keys(effective_grants(key, grants_of_roles(roles)))
        successor, cut = self._caller.limit_life(successor, given=False, can_issue=can_issue)
        await self._caller.recheck()
        await self._store.change(key_id, lifecycle.unless_changed(key, old), create=successor)
        return IssuedKey(await self._stored(successor.id), token, cut)

    async def _refuse_held(self, key: Key) -> None:
        """Raise if a rotation of the key waits to be confirmed."""
        pending = key.pending_successor
        after = await self._store.get(pending) if pending else None
        lifecycle.refuse_waiting(key if after is None else after, self._clock.now())

    async def confirm(self, key_id: str) -> Key:
        """Confirm that the secret of a successor is where it is used, by its id or that of its
        predecessor; the predecessor drains. Return the successor."""
        named = await known_key(self._store, key_id)
        key = await known_key(self._store, named.pending_successor or named.id)
        if key.confirm_by is None and not key.predecessor:
            raise Conflict(f"no rotation of the key {key.id} is held", code="not_held")
        return await self._decide_held(
            key, lambda keys, now: lifecycle.confirm(keys, key.id, now, self._caller.by)
        )

    async def _decide_held(self, key: Key, decide: Callable[[list[Key], float], list[Key]]) -> Key:
        await self._caller.recheck()
        now, among = self._clock.now(), [key.id, key.predecessor]
        await self._store.change_many(lambda keys: decide(keys, now), among=among)
        return await self._stored(key.id)

    async def change(
        self, key_id: str, patch: KeyPatchBody, check: KeyCheck = lambda key: None
    ) -> Key:
        """Change members of a key by a merge patch, if `check` lets its state pass. The caller must
        be able to issue the key as it is then, unless it may do no more than before."""
        return await decided_anew(lambda: self._changed(key_id, patch, check))

    async def _changed(self, key_id: str, patch: KeyPatchBody, check: KeyCheck) -> Key:
        key, now = await known_key(self._store, key_id), self._clock.now()
        check(key)
        check_readable(key)
        after = lifecycle.edit(key, patched(key, patch, now, self._terms), now, self._caller.by)
        if after is key:
            await self._caller.recheck()
            return key
        roles = await self.all_roles()
        combined_grants(after.grants, after.roles, grants_of_roles(roles))
        if await self._slices.run(widens(key, after, grants_of_roles(roles))):
            roles = await self._check_delegation(after, roles)
            if after.shared_domain:
                await self.check_domain(after.shared_domain, roles)
            can_issue = can_issue_keys(effective_grants(after, grants_of_roles(roles)))
            self._caller.limit_life(after, given=True, can_issue=can_issue)
        grants = effective_grants(after, grants_of_roles(roles))
        refuse_oracle(grants, "this key")
        await self.begin_pseudonyms(grants)
        return await self._change(key_id, lifecycle.unless_changed(key, after))

    async def suspend(self, key_id: str, reason: object) -> Key:
        """Suspend a key until it is resumed."""
        checked, now = lifecycle.check_reason(reason), self._clock.now()
        return await self._change(
            key_id, lambda key: lifecycle.suspend(key, now, checked, by=self._caller.by)
        )

    async def review(self, key_id: str, note: object) -> Key:
        """Mark a key as reviewed, unless the caller has a part in it."""
        checked, now = lifecycle.check_reason(note, "note"), self._clock.now()
        await self._caller.refuse_own_case(await known_key(self._store, key_id))
        return await self._change(
            key_id, lambda key: lifecycle.review(key, now, checked, by=self._caller.by)
        )

    async def resume(self, key_id: str) -> Key:
        """End a suspension; the caller must be able to issue the key."""
        return await decided_anew(lambda: self._resume(key_id))

    async def _resume(self, key_id: str) -> Key:
        key = await known_key(self._store, key_id)
        resumed = lifecycle.resume(key, self._clock.now(), self._caller.by)
        await self._check_delegation(key, await self.all_roles())
        return await self._change(key_id, lifecycle.unless_changed(key, resumed))

    async def revoke(self, key_id: str, reason: object, *, with_descendants: bool) -> Revocation:
        """Revoke a key for good, and its descendants if asked."""
        checked, now, by = lifecycle.check_reason(reason), self._clock.now(), self._caller.by
        descendants = None
        if with_descendants:
            await known_key(self._store, key_id)
            await self._caller.recheck()
            key, *others = await self._store.change_many(
                lambda keys: revoke_with_descendants(keys, key_id, now, checked, by)
            )
            descendants = tuple(one.id for one in others)
        elif lifecycle.waits(key := await known_key(self._store, key_id), now):
            key = await self._decide_held(
                key, lambda keys, now: lifecycle.give_up(keys, key_id, now, checked, by)
            )
        if not with_descendants and key.revoked_at is None:
            key = await self._change(key_id, lambda key: lifecycle.revoke(key, now, checked, by))
        living = await self._living_descendants(key_id)
        return Revocation(key, self._clock.now(), descendants, tuple(living))

    async def all_keys(
        self,
        hold: Callable[[int], None] = lambda size: None,
        place: KeyPlace = by_age,
    ) -> AsyncIterator[Key]:
        """Keys that have a place, in the order of their places; by default all, oldest first.
        `hold` is told of the bytes that are held meanwhile, as not all keys are in memory at
        once."""
        places: list[list[Place]] = []
        async for part in self._store.parts():
            hold(len(part) * _PLACE_BYTES)
            found = [place(key) async for key in self._slices.each(part)]
            places.append(sorted(one for one in found if one is not None))
        ordered = merge(*places)
        while ids := [key_id for _, key_id in islice(ordered, PART_KEYS)]:
            by_id = {key.id: key for key in await self._store.some(ids)}
            await self._slices.rest()
            async for key in self._slices.each(by_id[one] for one in ids if one in by_id):
                yield key

    async def check_domain(self, domain: str, roles: Mapping[str, Role]) -> None:
        """Raise if keys share pseudonyms in a domain, ended ones too, that the caller could not
        make: what their recipients have could be joined with what another key of it reads."""
        async for part in self._store.parts():
            await self._slices.rest()
            for other in (one for one in part if one.shared_domain == domain):
                alike = structs.replace(other, limits=self._caller.limits)
                try:
                    await self._caller.check_delegation(alike, roles)
                except Forbidden as error:
                    if error.code != "exceeds_own_grants":
                        raise
                    raise Forbidden(
                        "pseudonym_domain: keys of this domain may do more than this key can "
                        "grant, and another key would show whom their pseudonyms stand for; take "
                        "another name, or use a key that has those rights",
                        code="foreign_pseudonym_domain",
                    ) from None

    async def _check_delegation(self, key: Key, roles: dict[str, Role]) -> dict[str, Role]:
        """Raise if the caller may not delegate what the key may do. Return the roles that were
        compared, which did not change meanwhile."""
        for _ in range(MOST_ATTEMPTS):
            await self._caller.check_delegation(key, roles)
            before, roles = roles, await self.all_roles()
            if roles == before:
                return roles
        raise Conflict("the roles change all the time; try again")

    async def _change(self, key_id: str, change: lifecycle.Changing) -> Key:
        await self._caller.recheck()
        known = is_key_id(key_id)
        return refuse_unknown(await self._store.change(key_id, change) if known else None)

    async def _stored(self, key_id: str) -> Key:
        """A key that was just stored, with its revision."""
        return refuse_unknown(await self._store.get(key_id))

    async def _living_descendants(self, key_id: str) -> list[str]:
        descent, now = Descent(), self._clock.now()
        async for part in self._store.parts():
            async for key in self._slices.each(part):
                descent.add(key, now)
        return await self._slices.run(descent.living(key_id))

    # Pseudonyms

    async def rotate_pseudonyms(self, recorded: int) -> VersionStanding:
        """Begin a new version of pseudonyms, or the first; return it. `recorded` is when the newest
        event was recorded, in microseconds since 1970."""
        now = max(int(self._clock.now() * 1_000_000), recorded)
        await self._change_pseudonyms(pseudonym_secrets.rotated(await self.pepper(), now))
        newest = (await self.pseudonym_versions())[-1]
        await self._record_pseudonyms("rotated", newest.version)
        return newest

    async def forget_pseudonyms(self, version: int) -> None:
        """Destroy the secret of a version that has ended, for good."""
        micros = int(self._clock.now() * 1_000_000)
        await self._change_pseudonyms(pseudonym_secrets.forgotten(version, micros), erases=True)
        await self._record_pseudonyms("forgotten", version)

    async def pseudonym_versions(self) -> list[VersionStanding]:
        """All versions of pseudonyms, oldest first."""
        kind, name = pseudonym_secrets.KIND, pseudonym_secrets.NAME
        return pseudonym_secrets.standings(await self._store.note(kind, name))

    async def begin_pseudonyms(self, grants: Iterable[Grant]) -> None:
        """Make the first secret of pseudonyms where grants need one."""
        needed = any(grant.fields and grant.fields.pseudonymize for grant in grants)
        if needed and not await self.pseudonym_versions():
            await self._change_pseudonyms(pseudonym_secrets.begun(await self.pepper()))
            await self._record_pseudonyms("begun", 1)

    async def _change_pseudonyms(self, change: Noting, *, erases: bool = False) -> None:
        kind, name = pseudonym_secrets.KIND, pseudonym_secrets.NAME
        await self._store.update_notes(kind, {name: change}, erases=erases)

    async def _record_pseudonyms(self, what: str, version: int) -> None:
        """Record a change of the secrets. It is durable then, and the note written before it,
        too."""
        by = self._caller.by
        await self._store.record_later(
            other_change(
                f"pseudonyms.{what}", [f"pseudonyms:{version}"], by=actor_name(by),
                at=self._clock.now(), data={"version": version}, operator=operator_of(by),
            )
        )  # fmt: skip

    # Roles

    async def all_roles(self) -> dict[str, Role]:
        """All roles, the predefined ones first."""
        return {**BUILTIN, **await self._store.roles()}

    async def role(self, name: str) -> Role:
        """The role of that name."""
        role = (await self.all_roles()).get(name)
        if role is None:
            raise unknown_role(name)
        return role

    async def put_role(self, role: Role) -> bool:
        """Add or replace a role; return whether it is new."""
        before = (await self._store.roles()).get(role.name)
        by, now = self._caller.by, self._clock.now()
        stamped = structs.replace(role, changed_by=actor_name(by), changed_at=now)
        if before is not None:
            # It stays one of its set, whose next plan shows what was changed.
            stamped = structs.replace(
                stamped, managed_by=before.managed_by, declared=before.declared
            )

        async def change(check: RoleCheck) -> None:
            def checked(roles: Mapping[str, Role], having: Sequence[Key]) -> None:
                check(roles, having)
                if role.name in roles:
                    if roles[role.name].managed_by != stamped.managed_by:
                        raise ChangedMeanwhile(f"the role {role.name} was changed at the same time")
                    others = {**grants_of_roles(roles), role.name: role.grants}
                    for key in having:
                        refuse_oracle(effective_grants(key, others), f"the key {key.id}")

            await self._caller.recheck()
            await self.begin_pseudonyms(role.grants)
            await self._store.put_role(stamped, by, now, check=checked)

        refuse_oracle(role.grants, "a key with this role")
        await self._caller.change_role(role.name, role.grants, change)
        return before is None

    async def delete_role(self, name: str) -> list[str]:
        """Delete a role; return the ids of the keys that lost it."""
        # One of an older version may have the name of a role that is predefined now.
        if name in BUILTIN and name not in await self._store.roles():
            raise Conflict(f"the role {name} is predefined and stays", code="predefined_role")

        async def change(check: RoleCheck) -> list[str] | None:
            await self._caller.recheck()
            return await self._store.delete_role(
                name, self._caller.by, self._clock.now(), check=check
            )

        having = await self._caller.change_role(name, (), change)
        if having is None:
            raise unknown_role(name)
        return having
