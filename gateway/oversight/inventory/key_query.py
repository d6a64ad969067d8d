"""Query over keys: the conditions that a key must meet, and the order of those that do. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Literal

import msgspec

from gateway.access.grants.grant import Grant, When
from gateway.access.keys.key import Key
from gateway.access.keys.lifecycle import is_living
from gateway.access.policy.decision import Allowed, Denied, decide_grants
from gateway.access.policy.satisfiability import unsatisfiable_parameter
from gateway.filters.scope import Scope
from gateway.oversight.review.sentences import can_sentences

Order = Literal["oldest", "newest", "name", "owner", "expires", "last_used", "reviewed"]
# Where a key stands in an order; the id decides between equal ones.
Place = tuple[Any, str]
EXPIRING_SECONDS = 14 * 86400
UNUSED_SECONDS = 30 * 86400
_ABOUT_EVENTS = ("stream", "pull", "ingest")


class KeyFacts:
    """What queries compare of one key at `now`. `used_at` is 0.0 for keys that were never used;
    `findings` is None where the asking key may not read them."""

    def __init__(
        self, key: Key, grants: tuple[Grant, ...], now: float, used_at: float, findings: int | None
    ) -> None:
        self.key = key
        self.grants = grants
        self.now = now
        self.used_at = used_at
        self.findings = findings
        self._decisions: dict[str, Allowed | Denied] = {}

    @cached_property
    def living(self) -> bool:
        return is_living(self.key, self.now)

    def expiring(self, seconds: float = EXPIRING_SECONDS) -> bool:
        """Whether it will end within these seconds."""
        # Persons do not expire, they stay away.
        return self.living and self.key.person is None and self.key.ends_at - self.now <= seconds

    def unused(self, seconds: float = UNUSED_SECONDS) -> bool:
        """Whether it is not in use for these seconds; a key is in use when it is made."""
        return self.living and self.now - max(self.used_at, self.key.created_at) >= seconds

    @property
    def never_used(self) -> bool:
        return self.living and not self.used_at

    def may(self, action: str) -> bool:
        """Whether its grants allow the action at some time and from some address."""
        return isinstance(self._decided(action), Allowed)

    def reaches(self, tenant: str, action: str) -> bool:
        """Whether it may do the action with events of the tenant."""
        decision = self._decided(action)
        if not isinstance(decision, Allowed):
            return False
        return unsatisfiable_parameter(decision.view, Scope(tenant=(tenant,)), None) is None

    def _decided(self, action: str) -> Allowed | Denied:
        """What the grants say of an action, decided once: a key may have very many of them."""
        if action not in self._decisions:
            self._decisions[action] = decide_grants(self._standing, action)
        return self._decisions[action]

    @cached_property
    def _standing(self) -> tuple[Grant, ...]:
        """Grants without their circumstances; a denial under circumstances denies nothing here."""
        return tuple(
            _always(grant)
            for grant in self.grants
            if grant.effect == "allow" or grant.when in (None, When())
        )

    def holds(self, words: tuple[str, ...]) -> bool:
        """Whether each of the words, in lower case, is part of what is told of the key."""
        key = self.key
        told = (
            key.name, key.id, key.purpose, key.owner, key.created_by, key.created_by_name,
            *key.roles, *can_sentences(self.grants),
        )  # fmt: skip
        text = "\n".join(told).lower()
        return all(word in text for word in words)


class KeyQuery(msgspec.Struct, frozen=True):
    """Conditions, all of which hold; of several values of one, any holds. An empty or absent one
    holds for each key. `after` is the place behind which keys are wanted."""

    owner: tuple[str, ...] = ()
    role: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    tenant: tuple[str, ...] = ()
    action: tuple[str, ...] = ()
    managed_by: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    expiring: int | None = None
    unused: int | None = None
    never_used: bool | None = None
    findings: bool | None = None
    order: Order = "oldest"
    limit: int | None = None
    after: Place | None = None

    def matches(self, facts: KeyFacts) -> bool:
        key = facts.key
        return (
            (not self.owner or key.owner in self.owner)
            and (not self.role or not set(self.role).isdisjoint(key.roles))
            and (not self.state or key.state(facts.now) in self.state)
            and (not self.managed_by or _is_managed(key.managed_by, self.managed_by))
            and (self.expiring is None or facts.expiring(self.expiring))
            and (self.unused is None or facts.unused(self.unused))
            and (self.never_used is None or self.never_used == facts.never_used)
            and (self.findings is None or self.findings == bool(facts.findings))
            and (not self.words or facts.holds(self.words))
            and self._may(facts)
        )

    def _may(self, facts: KeyFacts) -> bool:
        if self.tenant:
            actions = self.action or _ABOUT_EVENTS
            return any(facts.reaches(one, action) for one in self.tenant for action in actions)
        return not self.action or any(map(facts.may, self.action))

    def place(self, facts: KeyFacts) -> Place:
        """Where the key stands in the order."""
        return _ORDERS[self.order](facts), facts.key.id

    def is_behind(self, place: Place) -> bool:
        """Whether a place is behind `after`."""
        return self.after is None or place > self.after


_ORDERS: Mapping[Order, Callable[[KeyFacts], Any]] = {
    "oldest": lambda facts: facts.key.created_at,
    "newest": lambda facts: -facts.key.created_at,
    "name": lambda facts: facts.key.name.lower(),
    "owner": lambda facts: facts.key.owner.lower(),
    "expires": lambda facts: facts.key.ends_at,
    "last_used": lambda facts: facts.used_at,
    "reviewed": lambda facts: facts.key.reviewed_at or 0.0,
}
ORDERS: tuple[Order, ...] = tuple(_ORDERS)


def _is_managed(name: str, wanted: tuple[str, ...]) -> bool:
    """Whether a declaration `<set>/<name>` is one of those wanted, or of a set that is."""
    return bool(name) and (name in wanted or name.split("/")[0] in wanted)


def _always(grant: Grant) -> Grant:
    return grant if grant.when is None else msgspec.structs.replace(grant, when=None)
