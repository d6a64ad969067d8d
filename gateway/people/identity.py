"""Who somebody is, by the claims of an identity provider, and which roles that gives. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.access.keys.operator import Person
from gateway.errors import Forbidden
from gateway.people.tokens import Claims
from gateway.sanitize import clean

MOST_GROUPS = 1000
# Of those that an error names.
MOST_SHOWN = 50
_LONGEST_NAME = 256


class Identity(NamedTuple):
    """A person, with the groups that they are in; None where the provider did not say."""

    person: Person
    groups: tuple[str, ...] | None


def identity_of(claims: Claims, issuer: str, groups_claim: str, now: float) -> Identity:
    """Who the claims are about. A mail address that is not verified names nobody."""
    names = [claims.get("preferred_username"), claims["sub"]]
    if claims.get("email_verified") is not False:
        names.insert(0, claims.get("email"))
    name = next(one for one in names if isinstance(one, str) and one.strip())
    person = Person(issuer, claims["sub"], clean(name, _LONGEST_NAME), now)
    return Identity(person, _groups(claims, groups_claim))


def roles_of(groups: tuple[str, ...], roles: Mapping[str, str]) -> list[str]:
    """Names of the roles of these groups. `roles`: those of each group, separated by commas."""
    return [name.strip() for one in groups if one in roles for name in roles[one].split(",")]


def no_group(identity: Identity) -> Forbidden:
    """Error for a person in no group that has roles: it says which groups came."""
    came = identity.groups or ()
    shown = [clean(one, _LONGEST_NAME) for one in came[:MOST_SHOWN]]
    groups = f"these groups came: {', '.join(shown)}" if shown else "no groups came"
    return Forbidden(
        f"{identity.person.name} has signed in at the identity provider, but is in no group that "
        f"has access here; {groups}. Ask who answers for the gateway",
        code="no_group",
        groups=shown,
    )


def _groups(claims: Claims, path: str) -> tuple[str, ...] | None:
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
    if found is None:
        return None
    listed = found if isinstance(found, list) else [found]
    return tuple(one for one in listed[:MOST_GROUPS] if isinstance(one, str))
