"""Changes to keys, roles and what belongs to them, as the record tells of them. Pure.

Each change has an event id of its own that follows from it, so that whoever
notices it first may write it into the log, and it stands there once.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gateway.access.grants.role import Role
from gateway.access.keys.key import Key
from gateway.access.keys.operator import Actor, Operator, actor_name, operator_of
from gateway.clock import format_time

REQUESTED = "requested"
# An event ends at 256 KiB; each key has a record of its own beside it.
_MOST_NAMED = 1_000


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change, or a look by the command line. `about` are the urns of what was changed, `by` is
    a kid, `cli:` and a user, or a program's name, `at` is in seconds since 1970 (0: when it is
    recorded); `operator` gave the command, if it was made by the command line."""

    id: str
    action: str
    about: tuple[str, ...]
    name: str = ""
    by: str = ""
    at: float = 0.0
    reason: str = ""
    data: dict[str, Any] = {}
    operator: Operator | None = None


def key_urn(key_id: str) -> str:
    """How records name a key among their targets."""
    return f"key:{key_id}"


def key_change(key: Key) -> Change:
    """The newest change of a key, which is as it stands in the store after it."""
    return Change(
        id=f"key-{key.id}-{key.revision}",
        action=f"key.{key.change}",
        about=tuple(map(key_urn, filter(None, (key.id, key.successor, key.predecessor)))),
        name=key.name,
        by=key.changed_by,
        at=key.changed_at or key.created_at,
        reason=_reason(key),
        data=_key_data(key),
        operator=key.changed_from,
    )


def role_change(
    name: str,
    version: int,
    role: Role | None,
    by: Actor,
    *,
    at: float = 0.0,
    keys: Sequence[str] = (),
) -> Change:
    """A role was put, or deleted (None); `version` is that of all roles after it. `keys` are those
    that it was taken out of."""
    data: dict[str, Any] = {"role": name}
    if role is not None:
        data |= {"description": role.description, "grants": [one.shown() for one in role.grants]}
    if keys:
        data |= {"keys": list(keys[:_MOST_NAMED]), "keys_count": len(keys)}
    return Change(
        id=f"role-{name}-{version}",
        action="role.deleted" if role is None else "role.put",
        about=(f"role:{name}",),
        name=name,
        by=actor_name(by),
        at=at,
        data=data,
        operator=operator_of(by),
    )


def other_change(
    action: str,
    about: Iterable[str],
    *,
    by: str,
    at: float,
    reason: str = "",
    data: dict[str, Any],
    operator: Operator | None = None,
) -> Change:
    """A change of what has no revision of its own: it is made once, where it happens."""
    return Change(
        id=f"{action}-{secrets.token_hex(8)}",
        action=action,
        about=tuple(about),
        by=by,
        at=at,
        reason=reason,
        data=data,
        operator=operator,
    )


def inspection(
    command: str, about: Iterable[str], operator: Operator, at: float, asked: Any
) -> Change:
    """Somebody looks at keys by the command line, which is an access as any other."""
    return other_change(
        REQUESTED, about, by=operator.actor, at=at, operator=operator,
        data={"count": 1, "route": command, "parameters": [asked]},
    )  # fmt: skip


def _reason(key: Key) -> str:
    return {"revoked": key.revoked_reason, "suspended": key.suspended_reason}.get(key.change, "")


def _key_data(key: Key) -> dict[str, Any]:
    data: dict[str, Any] = {"key": key.id, "purpose": key.purpose, "owner": key.owner}
    if key.change == "created":
        data["expires_at"] = format_time(key.expires_at)
        data["grants"] = [one.shown() for one in key.grants]
        data["roles"] = list(key.roles)
        if limits := key.limits.public():
            data["limits"] = limits
        if key.predecessor:
            data["predecessor"] = key.predecessor
        if key.created_by:
            data["created_by"] = key.created_by
    if key.change == "role_removed":
        data["roles"] = list(key.roles)
    if key.change in ("rotated", "drained"):
        data["successor"] = key.successor
        data["drains_until"] = format_time(key.ends_at)
    if key.change == "suspended" and key.suspended_until is not None:
        data["until"] = format_time(key.suspended_until)
    if key.change == "throttled" and key.throttled_until is not None:
        data["until"] = format_time(key.throttled_until)
    return data
