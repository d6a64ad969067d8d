"""Destinations of declared sets, by the administration of destinations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from gateway.access.administration.caller import Caller
from gateway.access.credentials.pepper import Pepper
from gateway.access.grants.role import Role
from gateway.access.keys.key import Key
from gateway.access.keys.operator import actor_name
from gateway.clock import Clock
from gateway.declarations.comparison import digest_of, members_of_definition
from gateway.declarations.plan import DestinationAct
from gateway.declarations.planned_destinations import KnownDestinations
from gateway.delivery.administration import DestinationAdministration
from gateway.delivery.definition import Definition
from gateway.delivery.destination import Destination
from gateway.delivery.sealing import fingerprint_of


class DeclaredDestinations:
    """Destinations of sets on behalf of one caller. `pepper` returns the current one, under which
    secrets are told apart."""

    def __init__(
        self,
        caller: Caller,
        administration: DestinationAdministration,
        clock: Clock,
        pepper: Callable[[], Awaitable[Pepper]],
    ) -> None:
        self._caller = caller
        self._administration = administration
        self._clock = clock
        self._pepper = pepper

    async def all(self) -> KnownDestinations:
        """All destinations that are there."""
        secret = (await self._pepper()).secret
        found = {one.name: one for one in await self._administration.all()}
        return KnownDestinations(
            by_name=found, fingerprint=lambda value: fingerprint_of(value, secret)
        )

    async def check(
        self,
        acts: list[DestinationAct],
        keys: Mapping[str, Key],
        roles: Mapping[str, Role],
    ) -> None:
        """Raise if the caller may not do one of the acts. `keys` are those that are there by id,
        and those to be made by name."""
        for act in acts:
            if act.definition is None:
                continue
            self._administration.check_type(act.definition, await self._secrets_of(act))
            key = keys.get(act.definition.key) or keys.get(act.key)
            if key is not None:
                await self._caller.check_delegation(key, roles)

    async def apply(self, act: DestinationAct, owner: str, made: Mapping[str, str]) -> None:
        """Make, change or delete a destination. `made` are ids of keys that were made, by name."""
        if act.definition is None:
            await self._administration.delete(act.name)
            return
        definition = replace(act.definition, key=made.get(act.key, act.definition.key))
        stamped = self._stamping(definition, owner)
        raw = {**msgspec.to_builtins(definition), "secrets": act.secrets}
        if act.new:
            await self._administration.create(raw, stamped)
            return
        known = await self._administration.named(act.name)
        before: dict[str, Any] = msgspec.to_builtins(known.definition)
        patch = {**dict.fromkeys(before), **raw}
        for name in ("name", "type", "from"):
            patch.pop(name, None)
        await self._administration.change(act.name, patch, stamped)

    async def _secrets_of(self, act: DestinationAct) -> frozenset[str]:
        known = {} if act.new else (await self._administration.named(act.name)).secrets
        return frozenset([*known, *act.secrets])

    def _stamping(self, definition: Definition, owner: str) -> Callable[[Destination], Destination]:
        """What marks a destination as one of the set."""
        declared = digest_of(members_of_definition(definition))
        by, now = actor_name(self._caller.by), self._clock.now()
        return lambda one: replace(
            one, managed_by=owner, declared=declared, changed_by=by, changed_at=now
        )
