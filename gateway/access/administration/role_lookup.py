"""Look-up of roles by name, and errors for unknown ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import nsmallest

from gateway.access.grants.grant import Grant, check_patterns_together
from gateway.access.grants.role import grants_of_roles
from gateway.access.keys.key_store import StoredRoles
from gateway.access.policy.attributed_grant import AttributedGrant, named_grants
from gateway.errors import InvalidRequest, NotFound
from gateway.sanitize import clean

_MOST_NAMED = 20


async def grants_by_role(store: StoredRoles) -> dict[str, tuple[Grant, ...]]:
    """Grants of all roles, by role name."""
    return grants_of_roles(await store.roles())


def combined_grants(
    own: tuple[Grant, ...], roles: tuple[str, ...], known: Mapping[str, tuple[Grant, ...]]
) -> tuple[AttributedGrant, ...]:
    """Grants of a key, its own and those of its roles. Raises for an unknown role, and for more
    patterns than can be compared in time."""
    _check_roles(roles, known)
    together = named_grants(own, roles, known)
    check_patterns_together(one.grant for one in together)
    return together


def unknown_role(name: str) -> NotFound:
    """Error for a role that does not exist."""
    return NotFound(
        f"there is no role {clean(name, 64)!r}; `audit-gateway roles list` or GET /v1/roles shows "
        "all",
        code="unknown_role",
    )


def _check_roles(names: Iterable[str], known: Mapping[str, object]) -> None:
    """Raise for the first unknown role."""
    for name in names:
        if name not in known:
            there = nsmallest(_MOST_NAMED, known)
            more = ", .." if len(known) > len(there) else ""
            raise InvalidRequest(
                f"there is no role {name!r}; there are {', '.join(there)}{more}",
                code="unknown_role",
            )
