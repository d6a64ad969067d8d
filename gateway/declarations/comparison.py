"""What is compared of a declared object and a stored one, member by member. Pure.

The digest of these members is stored with each object when a set is applied; where it differs
later, somebody else has changed the object since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.access.grants.role import Role
from gateway.access.keys.key import Key
from gateway.clock import format_duration
from gateway.delivery.definition import Definition

Members = dict[str, Any]
# Digits of a digest that is stored with each object.
_DIGITS = 16
_ENCODE = msgspec.json.Encoder(order="sorted").encode


def members_of_role(role: Role) -> Members:
    """Members of a role that a set declares."""
    return {"description": role.description, "grants": [one.shown() for one in role.grants]}


def members_of_key(key: Key) -> Members:
    """Members of a key that a set declares. Its life is from when it was made, and the same for its
    successors."""
    return {
        "name": key.name,
        "purpose": key.purpose,
        "owner": key.owner,
        "expires_in": format_duration(life_of(key)),
        "grants": [one.shown() for one in key.grants],
        "roles": list(key.roles),
        "limits": key.limits.public(),
        "rotate": None if key.rotate is None else msgspec.to_builtins(key.rotate),
    }


def members_of_definition(definition: Definition) -> Members:
    """Members of a destination that a set declares, but for its name, its key, and where it
    began."""
    members: Members = msgspec.to_builtins(definition)
    return {name: value for name, value in members.items() if name not in ("name", "key", "from")}


def life_of(key: Key) -> int:
    """Seconds that a key lives in all."""
    return round(key.expires_at - key.created_at)


def digest_of(members: Members) -> str:
    """What tells members apart."""
    return hashlib.sha256(_ENCODE(members)).hexdigest()[:_DIGITS]


def changed_members(before: Mapping[str, Any], after: Mapping[str, Any]) -> Members:
    """Members that differ, each as `{"old", "new"}`."""
    names = dict.fromkeys([*before, *after])
    return {
        name: {"old": before.get(name), "new": after.get(name)}
        for name in names
        if before.get(name) != after.get(name)
    }
