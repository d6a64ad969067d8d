"""Planning: from a declared set and what is there to the changes between them. Pure, in steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from gateway.access.grants.grant import Grant
from gateway.access.grants.role import Role, grants_of_roles
from gateway.access.keys.key import Key
from gateway.access.keys.key_limits import KeyLimits, exceeded, inherited
from gateway.access.keys.lifecycle import is_living
from gateway.access.policy.decision import effective_grants
from gateway.clock import format_time
from gateway.declarations.comparison import (
    changed_members,
    digest_of,
    life_of,
    members_of_key,
    members_of_role,
)
from gateway.declarations.plan import (
    DeclarationPlan,
    Drift,
    PlannedChange,
    digest_of_plan,
    in_order,
)
from gateway.declarations.planned_destinations import KnownDestinations, plan_destinations
from gateway.declarations.wanted import WantedKey, WantedSet
from gateway.declarations.wording import differences, widens
from gateway.errors import CannotDecide, Conflict

_MOST_NAMED = 20
# Seconds that a key works on when the life that is declared is over.
_OVERLAP = 3600
Steps = Generator[None, None, None]


class StoredState(msgspec.Struct, frozen=True, kw_only=True):
    """What is there at a time: stored roles, all keys that are concerned, and destinations.
    `limits` are those that keys of the caller inherit."""

    roles: Mapping[str, Role]
    keys: Sequence[Key]
    destinations: KnownDestinations
    now: float
    limits: KeyLimits


def is_concerned(key: Key, wanted: WantedSet, roles: Mapping[str, Role]) -> bool:
    """Whether a key is of the set, or has a role that is."""
    if key.managed_by.startswith(wanted.owner("")):
        return True
    return any(
        name in wanted.roles or (name in roles and roles[name].managed_by == wanted.owner(name))
        for name in key.roles
    )


def plan_of(
    wanted: WantedSet, there: StoredState, *, prune: bool
) -> Generator[None, None, DeclarationPlan]:
    """The plan, in steps. Raises `Conflict` for names that others have, `CannotDecide` for objects
    that this version cannot read."""
    planning = _Planning(wanted, there, prune)
    yield from planning.look()
    yield from planning.plan_roles()
    yield from planning.plan_keys()
    yield from planning.plan_holders()
    acts, changes = plan_destinations(wanted, there.destinations, there.keys, there.now, prune)
    yield
    changes = in_order([*planning.changes, *changes])
    yield
    seen = planning.seen()
    digest = yield from digest_of_plan(wanted.name, prune, changes, seen)
    return DeclarationPlan(
        set=wanted.name, prune=prune, changes=changes,
        digest=digest,
        roles=planning.roles, deleted_roles=planning.deleted, keys=planning.keys,
        revoked=planning.revoked, made=planning.made, destinations=acts,
        narrowed=frozenset(planning.narrowed), ended=frozenset(planning.ended),
    )  # fmt: skip


class _Planning:
    """The plan while it is made."""

    def __init__(self, wanted: WantedSet, there: StoredState, prune: bool) -> None:
        self.wanted, self.there, self.prune = wanted, there, prune
        self.changes: list[PlannedChange] = []
        self.roles: list[Role] = []
        self.deleted: list[str] = []
        self.keys: list[tuple[Key, Key]] = []
        self.revoked: list[Key] = []
        self.made: list[str] = []
        self.narrowed: set[str] = set()
        self.ended: set[str] = set()
        # Keys of the set by their owner, and living keys by their roles.
        self._managed: defaultdict[str, list[Key]] = defaultdict(list)
        self._having: defaultdict[str, list[Key]] = defaultdict(list)
        self._before: dict[str, tuple[Grant, ...]] = {}
        self._after: dict[str, tuple[Grant, ...]] = {}

    def look(self) -> Steps:
        """Sort what is there, and refuse what cannot be planned."""
        prefix, now = self.wanted.owner(""), self.there.now
        for number, key in enumerate(self.there.keys):
            if number % 100 == 0:
                yield
            if key.managed_by.startswith(prefix):
                if key.unreadable:
                    raise CannotDecide(_unreadable("key", key.id, key.unreadable))
                self._managed[key.managed_by].append(key)
            if is_living(key, now):
                for name in key.roles:
                    self._having[name].append(key)
        for keys in self._managed.values():
            keys.sort(key=lambda one: (one.created_at, one.id))
        taken = []
        for name in self.wanted.roles:
            known = self.there.roles.get(name)
            if known is not None and known.unreadable:
                raise CannotDecide(_unreadable("role", name, known.unreadable))
            if known is not None and known.managed_by != self.wanted.owner(name):
                taken.append(f"roles.{name}")
        if taken:
            raise Conflict(
                f"{', '.join(taken)}: there is such a role, and this set has not made it; take "
                "another name, or delete it first",
                code="name_taken", path=taken[0],
            )  # fmt: skip
        roles = {**self.there.roles, **self.wanted.roles}
        self._before = grants_of_roles(self.there.roles)
        self._after = grants_of_roles(roles)

    # Roles

    def plan_roles(self) -> Steps:
        for name, role in self.wanted.roles.items():
            yield
            yield from self._plan_role(name, role, self.there.roles.get(name))
        for name, known in self.there.roles.items():
            if known.managed_by == self.wanted.owner(name) and name not in self.wanted.roles:
                yield
                yield from self._plan_undeclared_role(name, known)

    def _plan_role(self, name: str, role: Role, known: Role | None) -> Steps:
        after = members_of_role(role)
        owner = self.wanted.owner(name)
        made = replace(role, managed_by=owner, declared=digest_of(after))
        if known is None:
            new, _ = yield from differences((), role.grants)
            self._add("+", "role", name, newly=new)
            self.roles.append(made)
            return
        before = members_of_role(known)
        if before == after:
            self._add("=", "role", name)
            return
        new, lost = yield from differences(known.grants, role.grants)
        having = self._having.get(name, [])
        wider = bool(having) and (yield from widens(known.grants, role.grants))
        self._add(
            "~", "role", name, newly=new, no_more=lost, members=changed_members(before, after),
            widens=wider,
            drift=_drift(known.declared, before, known.changed_by, known.changed_at),
            holders=[key.id for key in having[:_MOST_NAMED]], holders_count=len(having),
        )  # fmt: skip
        self.roles.append(made)

    def _plan_undeclared_role(self, name: str, known: Role) -> Steps:
        if not self.prune:
            self._add("!", "role", name, reason="not declared any more; --prune deletes it")
            return
        _, lost = yield from differences(known.grants, ())
        self._add("-", "role", name, no_more=lost)
        self.deleted.append(name)
        del self._after[name]

    # Keys

    def plan_keys(self) -> Steps:
        for name, wanted in self.wanted.keys.items():
            yield
            keys = self._managed.get(self.wanted.owner(name), [])
            living = [key for key in keys if is_living(key, self.there.now)]
            for key in filter(_is_unplaced, living):
                self.revoked.append(key)
                self.ended.add(key.id)
            living = [key for key in living if not _is_unplaced(key)]
            current = [key for key in living if key.drains_until is None]
            if not current:
                # One that drains ends soon: its successor has ended.
                yield from self._plan_new_key(name, wanted, keys[-1] if keys else None)
            elif self._is_over(wanted, current[-1]):
                yield from self._plan_new_key(name, wanted, current[-1])
            for key in living:
                yield
                yield from self._plan_key(name, wanted, key, current=key in current[-1:])
        known = {self.wanted.owner(name) for name in self.wanted.keys}
        for owner in sorted(self._managed.keys() - known):
            for key in self._managed[owner]:
                if is_living(key, self.there.now):
                    yield
                    yield from self._plan_undeclared_key(owner.partition("/")[2], key)

    def _plan_new_key(self, name: str, wanted: WantedKey, ended: Key | None) -> Steps:
        request = wanted.request
        grants = self._effective(request.grants, request.roles)
        new, _ = yield from differences((), grants)
        reason = "" if ended is None else _why_ended(ended, self.there.now)
        self._add(
            "+" if ended is None else "↻", "key", name,
            id="" if ended is None else ended.id, newly=new, widens=bool(new), reason=reason,
        )  # fmt: skip
        self.made.append(name)

    def _is_over(self, wanted: WantedKey, key: Key) -> bool:
        """Whether a key is older than the life that is declared."""
        return wanted.life and key.created_at + wanted.request.life <= self.there.now

    def _plan_key(self, name: str, wanted: WantedKey, key: Key, *, current: bool) -> Steps:
        changed = self._as_wanted(name, wanted, key, current)
        before, after = members_of_key(key), members_of_key(changed)
        if before == after:
            self._add("=", "key", name, id=key.id)
            return
        own = (key.grants, key.roles) != (changed.grants, changed.roles)
        # What its roles change is said of the roles.
        old = effective_grants(key, self._before) if own else ()
        new = effective_grants(changed, self._after) if own else ()
        newly, lost = yield from differences(old, new)
        longer = life_of(changed) > life_of(key)
        wider = yield from widens(old, new)
        weaker = exceeded(key.limits, changed.limits) is not None
        self._add(
            "~", "key", name, id=key.id, newly=newly, no_more=lost,
            members=changed_members(before, after), widens=wider or longer or weaker,
            drift=_drift(key.declared, before, key.changed_by, key.changed_at),
            # It may be of another who has used this name, and then has its secret, too.
            reason=f"it was made by {key.created_by}, and keeps its secret" if wider else "",
        )  # fmt: skip
        self.keys.append((key, replace(changed, declared=digest_of(after))))
        yield from self._narrow(key, old, new)

    def _as_wanted(self, name: str, wanted: WantedKey, key: Key, current: bool) -> Key:
        request, expires_at = wanted.request, key.expires_at
        if self._is_over(wanted, key):
            # One is made in its place; it works until that is in use.
            expires_at = min(expires_at, self.there.now + _OVERLAP) if current else expires_at
        elif wanted.life:
            expires_at = key.created_at + request.life
        if request.pseudonym_domain != key.shared_domain:
            raise Conflict(
                f"keys.{name}.pseudonym_domain: it stays as the key was made; declare another key",
                code="domain_stays", path=f"keys.{name}.pseudonym_domain",
            )  # fmt: skip
        return replace(
            key, name=request.name, purpose=request.purpose, owner=request.owner,
            grants=request.grants, roles=request.roles, rotate=request.rotate,
            limits=inherited(self.there.limits, request.limits),
            expires_at=expires_at,
        )  # fmt: skip

    def _plan_undeclared_key(self, name: str, key: Key) -> Steps:
        if not self.prune:
            self._add(
                "!", "key", name, id=key.id, reason="not declared any more; --prune revokes it"
            )
            return
        _, lost = yield from differences(effective_grants(key, self._before), ())
        self._add("-", "key", name, id=key.id, no_more=lost)
        self.revoked.append(key)
        self.ended.add(key.id)

    # Keys that have roles of the set

    def plan_holders(self) -> Steps:
        """Find which keys narrow as their roles do, and refuse to take a role from keys of
        others."""
        ending = {key.id for key in self.revoked}
        after = {changed.id: changed for _, changed in self.keys}
        compared = {
            changed.id
            for before, changed in self.keys
            if (before.grants, before.roles) != (changed.grants, changed.roles)
        }
        for name in self.deleted:
            left = [
                key.id for key in self._having.get(name, ())
                if key.id not in ending and name in after.get(key.id, key).roles
            ]  # fmt: skip
            if left:
                raise Conflict(
                    f"roles.{name} is not declared any more, and keys that are not of this set "
                    f"have it: {', '.join(left[:_MOST_NAMED])}; take it out of them first",
                    code="role_in_use", path=f"roles.{name}",
                )  # fmt: skip
        for role in self.roles:
            for key in self._having.get(role.name, ()):
                if key.id not in compared:
                    compared.add(key.id)
                    yield
                    old = effective_grants(key, self._before)
                    yield from self._narrow(key, old, effective_grants(key, self._after))

    def seen(self) -> dict[str, str]:
        """Revisions of what the plan was made from."""
        keys = {
            key.id: str(key.revision)
            for key in (*_all(self._managed), *_all(self._having))
            if key.managed_by.startswith(self.wanted.owner("")) or self._concerned(key)
        }
        roles = {
            f"role:{name}": f"{role.changed_at}:{digest_of(members_of_role(role))}"
            for name, role in self.there.roles.items()
            if name in self.wanted.roles or role.managed_by == self.wanted.owner(name)
        }
        return keys | roles | self.there.destinations.revisions(self.wanted)

    def _narrow(self, key: Key, old: tuple[Grant, ...], new: tuple[Grant, ...]) -> Steps:
        """Note a key that may do less, or stream nothing any more."""
        if not (yield from widens(new, old)):
            return
        streams = any(one.effect == "allow" and "stream" in one.actions for one in new)
        (self.narrowed if streams else self.ended).add(key.id)

    def _concerned(self, key: Key) -> bool:
        changing = {role.name for role in self.roles} | set(self.deleted)
        return not changing.isdisjoint(key.roles)

    def _effective(self, grants: tuple[Grant, ...], roles: tuple[str, ...]) -> tuple[Grant, ...]:
        """Grants of a key to be made."""
        found = {name: self._after.get(name, ()) for name in roles}
        return (*grants, *(grant for one in found.values() for grant in one))

    def _add(self, mark: Any, kind: Any, name: str, **members: Any) -> None:
        self.changes.append(PlannedChange(mark=mark, kind=kind, name=name, **members))


def _is_unplaced(key: Key) -> bool:
    """Whether a declaration has made a key whose secret was not said to be in its place."""
    return key.confirm_by is not None and not key.predecessor


def _all(groups: Mapping[str, list[Key]]) -> list[Key]:
    return [key for group in groups.values() for key in group]


def _drift(declared: str, members: dict[str, Any], by: str, at: float) -> Drift | None:
    """Who changed an object since it was declared, if somebody did."""
    if not declared or declared == digest_of(members):
        return None
    return Drift(by=by, at=format_time(at) if at else "")


def _why_ended(key: Key, now: float) -> str:
    if _is_unplaced(key) and key.revoked_at is None:
        return f"{key.id} was made, and its secret not confirmed to be in its place"
    if is_living(key, now):
        how = "drains" if key.drains_until is not None else "is older than the declared life"
        return f"{key.id} {how}"
    if key.revoked_at is None:
        return f"{key.id} expired at {format_time(key.ends_at)}"
    reason = f": {key.revoked_reason}" if key.revoked_reason else ""
    by = f" by {key.changed_by}" if key.change == "revoked" else ""
    return f"{key.id} was revoked{by} at {format_time(key.revoked_at)}{reason}"


def _unreadable(kind: str, name: str, why: str) -> str:
    return (
        f"the {kind} {name} cannot be read by this version, so that nothing can be planned: apply "
        f"with the version that wrote it ({why})"
    )
