"""Records of changes to keys, roles and what belongs to them. Pure.

The event id of a change follows from it, so that every process may write it into the log, and it is
stored once.
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
# Events are limited to 256 KiB; each key has a record of its own as well.
_MOST_NAMED = 1_000


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change, or an inspection by the command line. `about` are the URNs of what was changed,
    `by` is a kid, `cli:` and a user, or a program's name, `at` is in seconds since 1970 (0: when it
    is recorded). `operator` is set for the command line."""

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
    """URN of a key in the targets of records."""
    return f"key:{key_id}"


def key_change(key: Key, before: Key | None = None) -> Change:
    """Newest change of a key, as stored after it; `before` it was another one."""
    return Change(
        id=f"key-{key.id}-{key.revision}",
        action=f"key.{key.change}",
        about=tuple(
            map(
                key_urn,
                filter(None, (key.id, key.successor, key.predecessor, key.pending_successor)),
            )
        ),
        name=key.name,
        by=key.changed_by,
        at=key.changed_at or key.created_at,
        reason=_reason(key),
        data=_key_data(key) | ({} if before is None else _differences(before, key)),
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
    """Put or deletion (None) of a role. `version` is that of all roles after it, `keys` those that
    lost the role."""
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
    """Change of something without a revision of its own."""
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
    """Record that an operator looked at keys by the command line."""
    return other_change(
        REQUESTED, about, by=operator.actor, at=at, operator=operator,
        data={"count": 1, "route": command, "parameters": [asked]},
    )  # fmt: skip


def _differences(before: Key, key: Key) -> dict[str, Any]:
    """Old and new members of a key whose members were changed."""
    if key.change != "changed":
        return {}
    old, new = _editable(before), _editable(key)
    differing = [name for name in old if old[name] != new[name]]
    return {
        side: {name: of[name] for name in differing} for side, of in (("old", old), ("new", new))
    }


def _editable(key: Key) -> dict[str, Any]:
    return {
        "name": key.name,
        "purpose": key.purpose,
        "owner": key.owner,
        "expires_at": format_time(key.expires_at),
        "grants": [one.shown() for one in key.grants],
        "roles": list(key.roles),
        "limits": key.limits.public(),
        "rotate": None if key.rotate is None else msgspec.to_builtins(key.rotate),
        "managed_by": key.managed_by,
    }


def _reason(key: Key) -> str:
    reasons = {
        "revoked": key.revoked_reason,
        "suspended": key.suspended_reason,
        "reviewed": key.reviewed_note,
    }
    return reasons.get(key.change, "")


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
        if key.shared_domain:
            data["pseudonym_domain"] = key.shared_domain
        if key.rotate is not None:
            data["rotate"] = msgspec.to_builtins(key.rotate)
        if key.managed_by:
            data["managed_by"] = key.managed_by
        if key.created_by:
            data["created_by"] = key.created_by
        if key.break_glass:
            data["break_glass"] = True
    if key.person is not None and key.change in ("created", "signed_in", "roles_given"):
        data["person"] = {"id": key.person.subject, "issuer": key.person.issuer}
        data["roles"] = list(key.roles)
    if key.change == "role_removed":
        data["roles"] = list(key.roles)
    if key.change == "rotation_held":
        data["pending_successor"] = key.pending_successor
    if key.change in ("rotated", "drained"):
        data["successor"] = key.successor
        data["drains_until"] = format_time(key.ends_at)
    if key.change == "suspended" and key.suspended_until is not None:
        data["until"] = format_time(key.suspended_until)
    if key.change == "throttled" and key.throttled_until is not None:
        data["until"] = format_time(key.throttled_until)
    return data
