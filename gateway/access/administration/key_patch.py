"""Merge patches of keys (RFC 7396): the key after one, and whether it may do more then. Pure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.access.grants.grant import Grant, GrantsOfBody, parse_grants
from gateway.access.grants.role import RolesOfBody, parse_role_names
from gateway.access.keys.issuance import (
    BREAK_GLASS_SECONDS,
    MAX_TEXT,
    IssuanceTerms,
    check_life,
    check_text,
    parse_expires_at,
    parse_expires_in,
)
from gateway.access.keys.key import Key
from gateway.access.keys.key_limits import LIMITS, NO_LIMITS, KeyLimits, parse_limits
from gateway.access.keys.rotation_schedule import ROTATE, parse_rotate
from gateway.access.policy.decision import effective_grants
from gateway.access.policy.subsumption import uncovered_grant
from gateway.clock import Duration, MomentText
from gateway.errors import InvalidRequest
from gateway.json_members import Body, parse_body, reference

_CODE = "invalid_key_request"
_Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
# Raises if a key is not in the state that a change is meant for.
KeyCheck = Callable[[Key], None]


class KeyPatchBody(Body, frozen=True):
    """Body of `PATCH /v1/keys/{id}`; members of type `Any` are checked by functions of their
    own."""

    name: _Text | UnsetType = UNSET
    purpose: _Text | UnsetType = UNSET
    owner: _Text | UnsetType = UNSET
    expires_at: MomentText | UnsetType = UNSET
    expires_in: Duration | UnsetType = UNSET
    grants: GrantsOfBody = UNSET
    roles: RolesOfBody = UNSET
    limits: Annotated[Any, LIMITS, reference("KeyLimits")] = UNSET
    rotate: Annotated[Any, ROTATE, reference("RotationSchedule")] = UNSET


def parse_key_patch(raw: Any) -> KeyPatchBody:
    """Parse a decoded patch. Lists and their items are checked when it is applied."""
    patch = parse_body(raw, KeyPatchBody, code=_CODE)
    for member in ("name", "purpose", "owner"):
        if (text := getattr(patch, member)) is not UNSET:
            check_text(member, text)
    if patch.expires_at is not UNSET and patch.expires_in is not UNSET:
        raise InvalidRequest("send either expires_in or expires_at", code=_CODE)
    return patch


def patched(key: Key, patch: KeyPatchBody, now: float, terms: IssuanceTerms) -> Key:
    """The key after a patch. `null` takes a member away where a key can be without it; members of
    `limits` and `rotate` that are left out stay."""
    members: dict[str, Any] = {
        name: value
        for name in ("name", "purpose", "owner")
        if (value := getattr(patch, name)) is not UNSET
    }
    if patch.expires_in is not UNSET:
        members["expires_at"] = now + parse_expires_in(patch.expires_in)
    elif patch.expires_at is not UNSET:
        members["expires_at"] = parse_expires_at(patch.expires_at)
    if patch.grants is not UNSET:
        members["grants"] = () if patch.grants is None else parse_grants(patch.grants)
    if patch.roles is not UNSET:
        members["roles"] = () if patch.roles is None else parse_role_names(patch.roles)
    if patch.limits is not UNSET:
        members["limits"] = _limits(key.limits, patch.limits)
    if patch.rotate is not UNSET:
        schedule = _merged(msgspec.to_builtins(key.rotate), patch.rotate)
        members["rotate"] = parse_rotate(schedule, terms.max_overlap)
    after = msgspec.structs.replace(key, **members)
    _check_expiry(key, after, now, terms)
    return after


def widens(
    before: Key, after: Key, roles: Mapping[str, tuple[Grant, ...]]
) -> Generator[None, None, bool]:
    """Whether a key may do more, for longer, or faster, after a change; in steps. What cannot be
    shown to be less counts as more."""
    if after.expires_at > before.expires_at or _loosens(before.limits, after.limits):
        return True
    if (before.grants, before.roles) == (after.grants, after.roles):
        return False
    had, has = effective_grants(before, roles), effective_grants(after, roles)
    return (yield from uncovered_grant(had, has)) is not None


def _limits(own: KeyLimits, patch: Any) -> KeyLimits:
    merged = _merged(own.public(), patch)
    return NO_LIMITS if merged is None else parse_limits(merged)


def _loosens(before: KeyLimits, after: KeyLimits) -> bool:
    """Whether a limit is taken away, raised, or put in place of that of the settings."""
    was = before.public()
    now = after.public()
    return any(
        name not in now or (was.get(name) != limit and not 0 < limit <= was.get(name, 0))
        for name, limit in {**was, **now}.items()
    )


def _merged(own: Any, patch: Any) -> Any:
    """An object of plain values after a merge patch."""
    if not isinstance(patch, dict):
        return patch
    merged = {**(own or {}), **patch}
    return {name: value for name, value in merged.items() if value is not None}


def _check_expiry(before: Key, after: Key, now: float, terms: IssuanceTerms) -> None:
    if after.expires_at == before.expires_at:
        return
    longer = after.expires_at > before.expires_at
    check_life(after.expires_at - now, terms.max_life if longer else sys.maxsize)
    if longer and after.break_glass and after.expires_at > after.created_at + BREAK_GLASS_SECONDS:
        raise InvalidRequest(
            f"a break-glass key lives {BREAK_GLASS_SECONDS // 3600} hours at most; make a key for "
            "what lasts longer",
            code=_CODE,
        )
