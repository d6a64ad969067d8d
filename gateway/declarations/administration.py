"""Use cases of declared sets: a plan, and its application as one change of keys and roles.

Destinations are in a store of their own, and follow one by one once keys and roles have changed:
they were checked before. One that fails, or a crash between them, leaves the rest to the next
application of the set, whose plan then names them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from gateway.access.administration.administration import Administration
from gateway.access.administration.caller import Caller
from gateway.access.grants.grant import Grant
from gateway.access.grants.role import BUILTIN, Role
from gateway.access.keys import lifecycle
from gateway.access.keys.change import Change, other_change
from gateway.access.keys.issuance import IssuanceTerms, key_from_request
from gateway.access.keys.key import Key
from gateway.access.keys.key_limits import inherited
from gateway.access.keys.key_store import KeyChanges, KeysAndRoles
from gateway.access.keys.operator import Actor, actor_name, operator_of
from gateway.clock import Clock
from gateway.declarations.applied import Applied, FailedDestination, MadeKey
from gateway.declarations.checking import SetCheck
from gateway.declarations.comparison import digest_of, members_of_key
from gateway.declarations.declared_destinations import DeclaredDestinations
from gateway.declarations.plan import DeclarationPlan, counts_of
from gateway.declarations.planned_destinations import KnownDestinations
from gateway.declarations.planning import StoredState, is_concerned, plan_of
from gateway.declarations.wanted import WantedSet, parse_set
from gateway.errors import CannotDecide, ChangedMeanwhile, GatewayError, PreconditionFailed
from gateway.scheduling.loop_work import Slices

_MOST_ATTEMPTS = 5
_REASON = "not declared any more"


class _Prepared(msgspec.Struct, frozen=True):
    """A plan with all that it changes, made ready and checked. `grants` are those that keys have by
    it; `roles` and `seen` are what it was made from."""

    plan: DeclarationPlan
    changes: KeyChanges
    tokens: dict[str, tuple[Key, str]]
    grants: Sequence[Grant]
    roles: Mapping[str, Role]
    seen: Mapping[str, int]

    def held(self, until: float) -> _Prepared:
        """The same with keys that wait to be confirmed until then."""
        added = [replace(key, confirm_by=until) for key in self.changes.added]
        return replace(self, changes=replace(self.changes, added=added))


class DeclarationAdministration:
    """Administration of declared sets by one caller. `destinations` is None where they cannot be
    administered: then none may be declared."""

    def __init__(
        self,
        caller: Caller,
        administration: Administration,
        store: KeysAndRoles,
        clock: Clock,
        terms: IssuanceTerms,
        destinations: DeclaredDestinations | None,
        slices: Slices,
    ) -> None:
        self._caller = caller
        self._administration = administration
        self._store = store
        self._clock = clock
        self._terms = terms
        self._destinations = destinations
        self._slices = slices

    async def plan(self, raw: Any, *, prune: bool) -> DeclarationPlan:
        """What applying a decoded set would change. Raises what applying it would raise."""
        wanted = await self._wanted(raw)
        prepared = await self._prepared(wanted, prune)
        await self._caller.recheck()
        return prepared.plan

    async def apply(
        self, raw: Any, *, prune: bool, expect: str = "", hold: bool = False
    ) -> Applied:
        """Make what is there what is declared. With `expect`, the digest of a plan, it is refused
        if anything of the plan has moved. With `hold` keys that are made wait to be confirmed, once
        their secrets are in place; others are made in their stead by the next application."""
        wanted = await self._wanted(raw)
        for _ in range(_MOST_ATTEMPTS):
            prepared = await self._prepared(wanted, prune)
            plan = prepared.plan
            if expect and plan.digest != expect:
                raise PreconditionFailed(
                    "something has changed since the plan was made: look at a new plan, and apply "
                    "that",
                    code="plan_changed", etag=plan.digest,
                )  # fmt: skip
            await self._caller.recheck()
            if plan.empty:
                return Applied(plan=plan)
            if hold:
                prepared = prepared.held(self._clock.now() + lifecycle.CONFIRM_SECONDS)
            try:
                await self._store_changes(wanted, prepared)
            except ChangedMeanwhile:
                continue
            return await self._finished(wanted, prepared)
        raise CannotDecide("keys and roles of the set change all the time; try again")

    async def _wanted(self, raw: Any) -> WantedSet:
        wanted = await self._slices.run(parse_set(raw, self._terms))
        if wanted.destinations and self._destinations is None:
            raise CannotDecide("destinations cannot be administered here", code="no_destinations")
        return wanted

    async def _prepared(self, wanted: WantedSet, prune: bool) -> _Prepared:
        roles = await self._store.roles()
        named = {one.key for one in wanted.destinations.values()}
        keys: list[Key] = []
        async for part in self._store.parts():
            await self._slices.rest()
            keys += [key for key in part if is_concerned(key, wanted, roles) or key.id in named]
        there = StoredState(
            roles=roles, keys=keys, now=self._clock.now(), limits=self._caller.limits,
            destinations=await self._known_destinations(),
        )  # fmt: skip
        plan = await self._slices.run(plan_of(wanted, there, prune=prune))
        seen = {key.id: key.revision for key in keys if is_concerned(key, wanted, roles)}
        return await self._made_ready(wanted, plan, there, seen)

    async def _made_ready(
        self, wanted: WantedSet, plan: DeclarationPlan, there: StoredState, seen: dict[str, int]
    ) -> _Prepared:
        by, now = self._caller.by, there.now
        after = {**BUILTIN, **there.roles, **{role.name: role for role in plan.roles}}
        for name in plan.deleted_roles:
            del after[name]
        check = SetCheck(self._caller, self._administration, after, self._slices)
        await check.roles(plan, there)
        replaced: dict[str, Key] = {}
        async for before, key in self._slices.each(plan.keys):
            replaced[before.id] = lifecycle.edit(before, key, now, by)
            await check.changed_key(before, key)
        for key in plan.revoked:
            replaced[key.id] = lifecycle.revoke(key, now, _REASON, by)
        tokens: dict[str, tuple[Key, str]] = {}
        async for name in self._slices.each(plan.made):
            request = wanted.keys[name].request
            key, token = key_from_request(
                replace(request, managed_by=wanted.owner(name)), now=now,
                max_life=self._terms.max_life, pepper=await self._administration.pepper(), by=by,
            )  # fmt: skip
            key = replace(
                key, limits=inherited(self._caller.limits, key.limits),
                created_by_name=self._caller.person,
            )  # fmt: skip
            key = await check.new_key(name, key, given=request.expiry_given)
            tokens[name] = replace(key, declared=digest_of(members_of_key(key))), token
        if self._destinations is not None:
            made = {name: key for name, (key, _) in tokens.items()}
            await self._destinations.check(plan.destinations, {**_by_id(there.keys), **made}, after)
        stamped = [
            replace(role, changed_by=actor_name(by), changed_at=now) for role in plan.roles
        ]  # fmt: skip
        losing = await self._slices.run(_losing(plan, there, replaced, by))
        changes = KeyChanges(
            roles=stamped, deleted_roles=losing, replaced=list(replaced.values()),
            added=[key for key, _ in tokens.values()], records=[self._record(plan, now)],
        )  # fmt: skip
        return _Prepared(plan, changes, tokens, _grants_of(changes), there.roles, seen)

    def _record(self, plan: DeclarationPlan, now: float) -> Change:
        by = self._caller.by
        return other_change(
            "declaration.applied", [f"declaration:{plan.set}"], by=actor_name(by), at=now,
            data={
                "set": plan.set, "digest": plan.digest, "prune": plan.prune,
                "counts": counts_of(plan.changes),
            },
            operator=operator_of(by),
        )  # fmt: skip

    async def _store_changes(self, wanted: WantedSet, prepared: _Prepared) -> None:
        await self._administration.begin_pseudonyms(prepared.grants)

        def decide(roles: Mapping[str, Role], keys: Sequence[Key]) -> KeyChanges:
            seen = {key.id: key.revision for key in keys if is_concerned(key, wanted, roles)}
            if roles != prepared.roles or seen != prepared.seen:
                raise ChangedMeanwhile("keys or roles of the set were changed at the same time")
            return prepared.changes

        await self._store.change_together(decide, self._caller.by, self._clock.now())

    async def _finished(self, wanted: WantedSet, prepared: _Prepared) -> Applied:
        """Destinations follow; the keys that were made are told in any case."""
        made = [
            MadeKey(name=name, id=key.id, key=token)
            for name, (key, token) in prepared.tokens.items()
        ]
        failed: list[FailedDestination] = []
        ids = {one.name: one.id for one in made}
        destinations = self._destinations
        for act in prepared.plan.destinations:
            try:
                assert destinations is not None, "without them none is planned"
                await destinations.apply(act, wanted.owner(act.name), ids)
            except GatewayError as error:
                failed.append(
                    FailedDestination(name=act.name, code=error.code, detail=error.detail)
                )
        return Applied(plan=prepared.plan, made=made, failed=failed)

    async def _known_destinations(self) -> KnownDestinations:
        return KnownDestinations() if self._destinations is None else await self._destinations.all()


def _losing(
    plan: DeclarationPlan, there: StoredState, replaced: dict[str, Key], by: Actor
) -> Generator[None, None, dict[str, list[str]]]:
    """Ids of keys that lose deleted roles, in steps. Keys that name a deleted role, or a new one of
    that name, must not get it by that: they are added to those that are replaced."""
    new = {role.name for role in plan.roles if role.name not in there.roles}
    losing: dict[str, list[str]] = {name: [] for name in plan.deleted_roles}
    for key in there.keys:
        yield
        names = [name for name in key.roles if name in losing or name in new]
        declared = key.managed_by.startswith(f"{plan.set}/")
        for name in names:
            if key.unreadable or (declared and name in new):
                continue
            current = replaced.get(key.id, key)
            if key.id in replaced and current.change == "revoked":
                # It has ended for good.
                continue
            replaced[key.id] = lifecycle.without_role(current, name, there.now, by)
            if name in losing:
                losing[name].append(key.id)
    return losing


def _grants_of(changes: KeyChanges) -> list[Grant]:
    """All grants that are stored by changes."""
    stored: list[Key | Role] = [*changes.roles, *changes.replaced, *changes.added]
    return [grant for one in stored for grant in one.grants]


def _by_id(keys: Iterable[Key]) -> dict[str, Key]:
    return {key.id: key for key in keys}
