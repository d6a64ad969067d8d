"""Grants with their origin: the key's own, or a role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from gateway.access.grants.grant import Grant
from gateway.access.keys.key import Key
from gateway.json_members import about

_PROBLEMS = about("Where it counts otherwise than it is written.")


class AttributedGrant(msgspec.Struct, frozen=True):
    """Grant of a key. `role` is "" for the key's own; `number` counts from 1 within either."""

    grant: Grant
    role: str
    number: int

    @property
    def name(self) -> str:
        """Name for people: its id where it has one, such as `g1` or `auditor/everything`."""
        own = self.grant.id or str(self.number)
        return f"{self.role}/{own}" if self.role else own

    def public(self) -> NamedGrant:
        return NamedGrant(
            name=self.name, id=self.grant.id, role=self.role, effect=self.grant.effect,
            grant=self.grant.shown(), problems=self.problems(),
        )  # fmt: skip

    def problems(self) -> list[dict[str, str]]:
        """Where it counts otherwise than written: `{"path", "reason", "means"}` each."""
        return [
            {"path": problem.place, "reason": problem.reason, "means": means}
            for problem, means in self.grant.defects()
        ]

    def deviations(self) -> list[str]:
        """Its problems in words."""
        return [
            f"{': '.join(filter(None, (one['path'], one['reason'])))}; {one['means']}"
            for one in self.problems()
        ]


class NamedGrant(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A grant of a key in an answer."""

    name: str
    id: str = ""
    role: Annotated[str, about("Left out for the key's own.")] = ""
    effect: str
    grant: Grant
    problems: Annotated[list[dict[str, str]], _PROBLEMS] = []


def named_grants(
    own: tuple[Grant, ...], roles: tuple[str, ...], known: Mapping[str, tuple[Grant, ...]]
) -> tuple[AttributedGrant, ...]:
    """Grants of a key and of its roles, in the order of decisions."""
    named = [AttributedGrant(grant, "", number) for number, grant in enumerate(own, 1)]
    for role in roles:
        named += [
            AttributedGrant(grant, role, number)
            for number, grant in enumerate(known.get(role, ()), 1)
        ]
    return tuple(named)


def grants_of_key(key: Key, known: Mapping[str, tuple[Grant, ...]]) -> tuple[AttributedGrant, ...]:
    """Grants of a stored key and of its roles."""
    return named_grants(key.grants, key.roles, known)
