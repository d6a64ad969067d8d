"""Planning of destinations: which are made, changed and deleted. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from gateway.access.keys.key import Key
from gateway.access.keys.lifecycle import is_living
from gateway.clock import format_time
from gateway.declarations.comparison import changed_members, digest_of, members_of_definition
from gateway.declarations.plan import DestinationAct, Drift, PlannedChange
from gateway.declarations.reading import invalid
from gateway.declarations.wanted import NO_KEY, WantedDestination, WantedSet
from gateway.delivery.definition import Definition
from gateway.delivery.destination import Destination
from gateway.errors import Conflict

_MOST_ROTATIONS = 50
# Fingerprint of the value of a secret.
Fingerprint = Callable[[str], str]


class KnownDestinations(msgspec.Struct, frozen=True, kw_only=True):
    """Destinations that are there, by name, and how values of secrets are told apart."""

    by_name: Mapping[str, Destination] = {}
    fingerprint: Fingerprint = str

    def revisions(self, wanted: WantedSet) -> dict[str, str]:
        """Revisions of those that a set is about."""
        return {
            f"destination:{name}": str(one.revision)
            for name, one in self.by_name.items()
            if name in wanted.destinations or one.managed_by == wanted.owner(name)
        }


def plan_destinations(
    wanted: WantedSet,
    there: KnownDestinations,
    keys: Sequence[Key],
    now: float,
    prune: bool,
) -> tuple[list[DestinationAct], list[PlannedChange]]:
    """Acts on destinations, and how they are shown. Raises `Conflict` for names that others
    have."""
    planning = _Destinations(wanted, there, {key.id: key for key in keys}, now)
    for name, one in wanted.destinations.items():
        planning.plan(name, one)
    for name, known in sorted(there.by_name.items()):
        if known.managed_by == wanted.owner(name) and name not in wanted.destinations:
            if prune:
                planning.acts.append(DestinationAct(name=name, definition=None))
                planning.add("-", name)
            else:
                planning.add("!", name, reason="not declared any more; --prune deletes it")
    return planning.acts, planning.changes


class _Destinations:
    """Planning of destinations over known keys."""

    def __init__(
        self, wanted: WantedSet, there: KnownDestinations, keys: Mapping[str, Key], now: float
    ) -> None:
        self._wanted, self._there, self._keys, self._now = wanted, there, keys, now
        self.acts: list[DestinationAct] = []
        self.changes: list[PlannedChange] = []

    def plan(self, name: str, wanted: WantedDestination) -> None:
        known = self._there.by_name.get(name)
        self._check_key(name, wanted)
        if known is None:
            act = self._act(name, wanted, self._new_key(wanted), new=True)
            self.acts.append(act)
            self.add("+", name, widens=True, newly=[f"Receives what {wanted.key} may see."])
            return
        if known.managed_by != self._wanted.owner(name):
            raise Conflict(
                f"destinations.{name}: there is such a destination, and this set has not made it; "
                "take another name, or delete it first",
                code="name_taken", path=f"destinations.{name}",
            )  # fmt: skip
        if known.definition.type != wanted.definition.type:
            raise Conflict(
                f"destinations.{name}.type: it stays as it was made; declare another destination",
                code="type_stays", path=f"destinations.{name}.type",
            )  # fmt: skip
        self._plan_change(name, wanted, known)

    def _plan_change(self, name: str, wanted: WantedDestination, known: Destination) -> None:
        before = members_of_definition(known.definition)
        after = members_of_definition(wanted.definition)
        members = changed_members(before, after)
        key = known.definition.key
        if not self._delivers_for(key, wanted):
            new = self._new_key(wanted)
            members["key"] = {"old": key, "new": wanted.key}
            key = new
        other = {
            secret: value for secret, value in wanted.secrets.items() if self._differs(
                known, secret, value)
        }  # fmt: skip
        members |= {f"secrets.{one}": {"old": "set", "new": "another"} for one in other}
        if not members:
            self.add("=", name)
            return
        act = self._act(name, wanted, key)
        if known.definition.same_receiver(wanted.definition):
            act = replace(act, secrets=other)
        self.acts.append(act)
        drifted = known.declared and known.declared != digest_of(before)
        drift = Drift(by=known.changed_by, at=format_time(known.changed_at)) if drifted else None
        new_events = "key" in members or "select" in members or "settings" in members
        self.add("~", name, members=members, drift=drift, widens=new_events)

    def _act(
        self, name: str, wanted: WantedDestination, key: str, *, new: bool = False
    ) -> DestinationAct:
        definition: Definition = replace(wanted.definition, key=key)
        named = wanted.key if wanted.key in self._wanted.keys else ""
        return DestinationAct(
            name=name, definition=definition, key=named, new=new, secrets=wanted.secrets
        )

    def _check_key(self, name: str, wanted: WantedDestination) -> None:
        if wanted.key not in self._wanted.keys and wanted.key not in self._keys:
            raise invalid(
                f"there is no key {wanted.key[:64]!r} in this set, and none with that id",
                f"destinations.{name}.key",
            )

    def _new_key(self, wanted: WantedDestination) -> str:
        """Id of the key that a destination is to deliver for; `NO_KEY` for one to be made."""
        if wanted.key not in self._wanted.keys:
            return wanted.key
        owner = self._wanted.owner(wanted.key)
        living = [
            key for key in self._keys.values()
            if key.managed_by == owner and is_living(key, self._now)
        ]  # fmt: skip
        # One that waits to be confirmed may be given up.
        newest = max(
            living, key=lambda key: (key.confirm_by is None, key.created_at, key.id), default=None
        )
        return NO_KEY if newest is None else newest.id

    def _delivers_for(self, key_id: str, wanted: WantedDestination) -> bool:
        """Whether a key is the wanted one, or the wanted one took over from it."""
        if wanted.key not in self._wanted.keys:
            return key_id == wanted.key
        key = self._keys.get(key_id)
        for _ in range(_MOST_ROTATIONS):
            if key is None or key.managed_by != self._wanted.owner(wanted.key):
                return False
            if is_living(key, self._now):
                return True
            key = self._keys.get(key.successor)
        return False

    def _differs(self, known: Destination, name: str, value: str) -> bool:
        values = known.secrets.get(name, ())
        # Without a value only its name is known, where a file is looked at alone.
        return not values or values[0].fingerprint != self._there.fingerprint(value)

    def add(self, mark: Any, name: str, **members: Any) -> None:
        self.changes.append(PlannedChange(mark=mark, kind="destination", name=name, **members))
