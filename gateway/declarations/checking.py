"""Checks of a plan by what its caller may do: as of each of its changes made by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gateway.access.administration.administration import Administration
from gateway.access.administration.caller import Caller
from gateway.access.administration.key_patch import widens
from gateway.access.administration.role_lookup import combined_grants
from gateway.access.grants.grant import Grant
from gateway.access.grants.role import Role, grants_of_roles
from gateway.access.keys.descent import can_issue_keys
from gateway.access.keys.key import Key
from gateway.access.policy.decision import effective_grants
from gateway.access.policy.oracle import refuse_oracle
from gateway.declarations.plan import DeclarationPlan
from gateway.declarations.planning import StoredState
from gateway.errors import GatewayError
from gateway.scheduling.loop_work import Slices


class SetCheck:
    """Checks of one plan. `after` are all roles as they are when it was applied."""

    def __init__(
        self,
        caller: Caller,
        administration: Administration,
        after: Mapping[str, Role],
        slices: Slices,
    ) -> None:
        self._caller = caller
        self._administration = administration
        self._after = after
        self._slices = slices
        self._grants = grants_of_roles(after)

    async def roles(self, plan: DeclarationPlan, there: StoredState) -> None:
        """Raise if the caller may not change the roles, one after the other."""
        known = dict(there.roles)
        holders: dict[str, list[Key]] = {}
        async for key in self._slices.each(there.keys):
            for name in key.roles:
                holders.setdefault(name, []).append(key)
        for role in plan.roles:
            with _naming(f"roles.{role.name}"):
                refuse_oracle(role.grants, "a key with this role")
                having = holders.get(role.name, [])
                await self._caller.check_role(role.name, role.grants, known, having)
                known[role.name] = role
                granted = grants_of_roles(known)
                async for key in self._slices.each(having):
                    refuse_oracle(effective_grants(key, granted), f"the key {key.id}")
        for name in plan.deleted_roles:
            with _naming(f"roles.{name}"):
                having = holders.get(name, [])
                await self._caller.check_role(name, (), known, having)
                del known[name]

    async def new_key(self, name: str, key: Key, *, given: bool) -> Key:
        """The key with the life that the caller may give. Raises if it may not make it."""
        with _naming(f"keys.{name}"):
            grants = await self._delegable(key)
            if key.shared_domain:
                await self._administration.check_domain(key.shared_domain, self._after)
            limited, _ = self._caller.limit_life(key, given=given, can_issue=can_issue_keys(grants))
            return limited

    async def changed_key(self, before: Key, key: Key) -> None:
        """Raise if the caller may not change a key. To narrow it nothing is needed."""
        with _naming(f"keys.{key.name}"):
            combined_grants(key.grants, key.roles, self._grants)
            grants = effective_grants(key, self._grants)
            refuse_oracle(grants, "this key")
            if await self._slices.run(widens(before, key, self._grants)):
                await self._delegable(key)
                if key.shared_domain:
                    await self._administration.check_domain(key.shared_domain, self._after)
                self._caller.limit_life(key, given=True, can_issue=can_issue_keys(grants))

    async def _delegable(self, key: Key) -> tuple[Grant, ...]:
        """Effective grants of a key that the caller may make."""
        combined_grants(key.grants, key.roles, self._grants)
        await self._caller.check_delegation(key, self._after)
        grants = effective_grants(key, self._grants)
        refuse_oracle(grants, "this key")
        return grants


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Have errors say which object of the set they are about."""
    try:
        yield
    except GatewayError as error:
        if not error.detail.startswith(f"{path}:"):
            error.detail = f"{path}: {error.detail}"
            error.members.setdefault("path", path)
        raise
