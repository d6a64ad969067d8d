"""Making a key from what an administrator asked for. Pure, but for the randomness of the secret."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.access.credentials.pepper import pepper_id
from gateway.access.credentials.token import HOLDS_KEY, digest, holds_token, new_token
from gateway.access.grants.grant import Grant, parse_grants
from gateway.access.grants.role import parse_role_names
from gateway.access.keys.change import moment
from gateway.access.keys.key import Key
from gateway.access.keys.key_limits import NO_LIMITS, KeyLimits, parse_limits
from gateway.clock import parse_duration, parse_rfc3339
from gateway.errors import InvalidRequest

_MEMBERS = ("name", "purpose", "owner", "expires_in", "expires_at", "grants", "roles", "limits")
_REQUIRED = {
    "name": "what to call the key",
    "purpose": "the one thing it is for",
    "owner": "who answers for it",
}
_MAX_TEXT = 256


def new_key(
    *,
    name: str,
    purpose: str,
    owner: str,
    grants: tuple[Grant, ...],
    now: float,
    life: float,
    pepper: bytes,
    roles: tuple[str, ...] = (),
    limits: KeyLimits = NO_LIMITS,
    created_by: str = "gateway",
) -> tuple[Key, str]:
    """The key to store, and its token, which is shown once. `life` in seconds."""
    for member, text in (("name", name), ("purpose", purpose), ("owner", owner)):
        if not text.strip() or len(text) > _MAX_TEXT or not text.isprintable():
            raise _invalid(f"{member}: 1 to {_MAX_TEXT} printable characters")
        if holds_token(text):
            raise _invalid(f"{member}: it holds a whole key, {HOLDS_KEY}")
    key_id, token = new_token()
    key = Key(
        id=key_id,
        digest=digest(pepper, token),
        pepper=pepper_id(pepper),
        name=name,
        purpose=purpose,
        owner=owner,
        grants=grants,
        roles=roles,
        limits=limits,
        created_at=now,
        created_by=created_by,
        expires_at=now + life,
    )
    return key, token


def key_from_request(
    body: Any, *, now: float, default_life: int, max_life: int, pepper: bytes
) -> tuple[Key, str]:
    """The same from the decoded body of `POST /v1/keys`."""
    if not isinstance(body, dict):
        raise _invalid("the body must be a JSON object")
    for member in body:
        if member not in _MEMBERS:
            raise _invalid(f"unknown member {member[:64]!r}; there are {', '.join(_MEMBERS)}")
    for member, meaning in _REQUIRED.items():
        if not isinstance(body.get(member), str):
            raise _invalid(f"{member}: a string is required, {meaning}")
    if body.get("limits", {}) is None:
        raise _invalid("limits: null would be no limits at all; give an object, or leave it out")
    life = _life(body, now, default_life)
    check_life(life, max_life)
    return new_key(
        name=body["name"],
        purpose=body["purpose"],
        owner=body["owner"],
        grants=parse_grants(body.get("grants", [])),
        now=now,
        life=life,
        pepper=pepper,
        roles=parse_role_names(body.get("roles", [])),
        limits=parse_limits(body.get("limits")),
    )


def within_maker(key: Key, maker: Key, *, asked: bool, mints: bool) -> tuple[Key, bool]:
    """The key as its maker may make it, and whether its life was cut to that of its maker.

    What can mint does not outlive its maker. An expiry that was `asked` for is never cut in
    silence: it is refused.
    """
    if not mints or key.expires_at <= maker.expires_at:
        return key, False
    if asked:
        raise InvalidRequest(
            "a key that may administer keys does not outlive the key that makes it, which "
            f"expires at {moment(maker.expires_at)}; choose an earlier expiry or leave it out, or "
            "make the key with one that lives longer, or by the command line",
            code="outlives_maker",
        )
    return msgspec.structs.replace(key, expires_at=maker.expires_at), True


def check_life(life: float, max_life: int) -> None:
    """Refuse a life (seconds) that is over already or longer than the settings allow."""
    if life <= 0:
        raise _invalid("the key would have expired already; choose a later expiry")
    if life > max_life:
        raise _invalid(
            f"a key may live {max_life // 86400} days at most (setting keys.max_life); "
            "choose an earlier expiry"
        )


def _life(body: dict[str, Any], now: float, default: int) -> float:
    if "expires_in" in body and "expires_at" in body:
        raise _invalid("send either expires_in or expires_at")
    if "expires_in" in body:
        if not isinstance(body["expires_in"], str):
            raise _invalid("expires_in: a duration such as 30d is needed")
        try:
            return parse_duration(body["expires_in"])
        except InvalidRequest as error:
            raise _invalid(f"expires_in: {error.detail}") from None
    if "expires_at" in body:
        if not isinstance(body["expires_at"], str):
            raise _invalid("expires_at: an RFC 3339 date-time is needed")
        try:
            return parse_rfc3339(body["expires_at"]) / 1_000_000 - now
        except ValueError as error:
            raise _invalid(f"expires_at: {error}") from None
    return check_default_life(default)


def check_default_life(default: int) -> int:
    """The life (seconds) of a key that is made without an expiry, if the settings give one."""
    if not default:
        raise _invalid(
            "expires_in or expires_at is required: no life is given to keys that name none "
            "(setting keys.default_life)"
        )
    return default


def _invalid(detail: str) -> InvalidRequest:
    return InvalidRequest(detail, code="invalid_key_request")
