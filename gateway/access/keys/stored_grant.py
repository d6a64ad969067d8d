"""Stored form of keys and roles, and of grants that would be refused today. Pure.

Such a grant is kept as written and read so that it lets nothing more through. Where it allows,
invalid items of its lists are left out, or it allows nothing; where it denies, it denies everything
below the first segments of its categories. Invalid actions have no effect.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from gateway.access.grants.grant import Grant
from gateway.access.grants.grant_check import ACTIONS, MEMBERS, PATTERNS, Problem, problems
from gateway.access.grants.role import Role
from gateway.access.keys.key import Key
from gateway.errors import InvalidRequest
from gateway.filters.alphabet import check_member_pattern
from gateway.filters.pattern import ANY

VOID = "it allows nothing"
_WIDE = "it denies {} of every tenant and resource, from anywhere and at any time"
_WITHOUT = "it counts without that"
# Lists whose invalid items can be left out of a grant that allows.
_LISTS = (*PATTERNS, "actions", "when.cidr")
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_GRANTS = msgspec.json.Decoder(list[msgspec.Raw])
_KEY = msgspec.json.Decoder(Key)
_ROLE = msgspec.json.Decoder(Role)
_ENCODE = msgspec.json.Encoder().encode


class StoredGrant(Grant, frozen=True, kw_only=True):
    """Stored grant that would be refused today. Its members say how it is read, `original` is its
    JSON as stored, and `means` describes how it is read."""

    original: bytes
    wrong: tuple[Problem, ...]
    means: str

    def shown(self) -> Any:
        return msgspec.json.decode(self.original)

    def defects(self) -> tuple[tuple[Problem, str], ...]:
        return (*((problem, self.means) for problem in self.wrong), *super().defects())


def decode_key(document: bytes, digest: bytes, revision: int) -> Key:
    """Key from its row."""
    rest, grants = _apart(document)
    return msgspec.structs.replace(
        _KEY.decode(rest), grants=grants, digest=digest, revision=revision
    )


def encode_key(key: Key) -> bytes:
    """Document of a key, without the other columns of its row."""
    return _together(msgspec.structs.replace(key, digest=b"", revision=0), key.grants)


def decode_role(document: bytes) -> Role:
    """Role from its row."""
    rest, grants = _apart(document)
    return msgspec.structs.replace(_ROLE.decode(rest), grants=grants)


def encode_role(role: Role) -> bytes:
    """Document of a role."""
    return _together(role, role.grants)


def _apart(document: bytes) -> tuple[bytes, tuple[Grant, ...]]:
    members = _MEMBERS.decode(document)
    grants = _GRANTS.decode(members.pop("grants", b"[]"))
    return _ENCODE(members), tuple(read_grant(bytes(grant)) for grant in grants)


def _together(stored: Key | Role, grants: tuple[Grant, ...]) -> bytes:
    members = {name: getattr(stored, name) for name in stored.__struct_fields__}
    members["grants"] = [
        msgspec.Raw(one.original) if isinstance(one, StoredGrant) else one for one in grants
    ]
    return _ENCODE(members)


# Many keys have the same grants.
@lru_cache(4096)
def read_grant(document: bytes) -> Grant:
    """Grant from stored JSON, whatever it contains."""
    raw = msgspec.json.decode(document)
    # A time zone that this machine lacks does not change how a grant is read.
    wrong = tuple(problems(raw, zones=False))
    if not wrong:
        return msgspec.convert(raw, Grant)
    members: dict[str, Any] = raw if isinstance(raw, dict) else {"effect": "deny"}
    if members.get("effect", "allow") == "allow":
        read, means = _allowing(members, wrong)
    else:
        read, means = _denying(members, wrong)
    name = members.get("id", "")
    read = {**read, "id": name if isinstance(name, str) else ""}
    grant = msgspec.convert({name: read[name] for name in MEMBERS if name in read}, Grant)
    return StoredGrant(**msgspec.structs.asdict(grant), original=document, wrong=wrong, means=means)


def _allowing(raw: dict[str, Any], wrong: tuple[Problem, ...]) -> tuple[dict[str, Any], str]:
    mended = _without(raw, wrong)
    if not any(problems(mended, zones=False)):
        return mended, _WITHOUT
    return _void("allow"), VOID


def _denying(raw: dict[str, Any], wrong: tuple[Problem, ...]) -> tuple[dict[str, Any], str]:
    given = raw.get("actions")
    unreadable = any(problem.path == "actions" and problem.item < 0 for problem in wrong)
    actions = (
        ACTIONS if unreadable or not isinstance(given, list)
        else [action for action in given if action in ACTIONS]
    )  # fmt: skip
    if not actions:
        return _void("deny"), "it denies nothing"
    if all(problem.path == "actions" for problem in wrong):
        return {**raw, "actions": actions}, _WITHOUT
    heads = category_heads(raw.get("categories"))
    read = {"effect": "deny", "actions": actions, "categories": heads}
    return read, _WIDE.format(", ".join(heads))


def _void(effect: str) -> dict[str, Any]:
    """Grant without actions, which has no effect."""
    return {"effect": effect, "actions": [], "categories": [ANY]}


def _without(raw: dict[str, Any], wrong: tuple[Problem, ...]) -> dict[str, Any]:
    """The grant without invalid items of lists; lists may become empty."""
    mended: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(raw))
    for problem in reversed(wrong):
        if problem.item >= 0 and problem.path in _LISTS:
            holder, name = mended, problem.path
            if name == "when.cidr":
                holder, name = mended["when"], "cidr"
            del holder[name][problem.item]
    return mended


def category_heads(patterns: Any) -> list[str]:
    """Patterns for everything below the first segments of category patterns, or for all categories
    if some is unclear."""
    if not isinstance(patterns, list) or not patterns:
        return [ANY]
    heads = []
    for pattern in patterns:
        head = pattern.strip().lower().split(".")[0] if isinstance(pattern, str) else ""
        try:
            check_member_pattern("category", head)
        except InvalidRequest:
            return [ANY]
        if head.startswith("*"):
            return [ANY]
        heads.append(f"{head}.{ANY}")
    return list(dict.fromkeys(heads))
