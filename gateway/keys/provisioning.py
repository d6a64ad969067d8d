"""Making a key from what an administrator asked for. Pure, but for the randomness of the secret."""

from __future__ import annotations

from typing import Any

from gateway.clock import parse_duration, parse_rfc3339
from gateway.errors import InvalidRequest
from gateway.keys.grant import Grant, parse_grants
from gateway.keys.key import Key
from gateway.keys.role import parse_role_names
from gateway.keys.token import digest, new_token

_MEMBERS = ("name", "purpose", "owner", "expires_in", "expires_at", "grants", "roles", "limits")
_NOT_YET = ("limits",)
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
) -> tuple[Key, str]:
    """The key to store, and its token, which is shown once. `life` in seconds."""
    for member, text, needed in (("name", name, 1), ("purpose", purpose, 1), ("owner", owner, 0)):
        if not needed <= len(text) <= _MAX_TEXT or not text.isprintable():
            raise InvalidRequest(
                f"{member}: {needed} to {_MAX_TEXT} printable characters",
                code="invalid_key_request",
            )
    key_id, token = new_token()
    key = Key(
        id=key_id,
        digest=digest(pepper, token),
        name=name,
        purpose=purpose,
        owner=owner,
        grants=grants,
        roles=roles,
        created_at=now,
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
    for member in _NOT_YET:
        if body.get(member):
            raise InvalidRequest(
                f"{member} are not supported by this version; leave the member out",
                code="unsupported_member",
            )
    for member in ("name", "purpose"):
        if not isinstance(body.get(member), str):
            raise _invalid(f"{member}: a string is required")
    if not isinstance(body.get("owner", ""), str):
        raise _invalid("owner: a string is needed")
    life = _life(body, now, default_life)
    check_life(life, max_life)
    return new_key(
        name=body["name"],
        purpose=body["purpose"],
        owner=body.get("owner", ""),
        grants=parse_grants(body.get("grants", [])),
        now=now,
        life=life,
        pepper=pepper,
        roles=parse_role_names(body.get("roles", [])),
    )


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
    return default


def _invalid(detail: str) -> InvalidRequest:
    return InvalidRequest(detail, code="invalid_key_request")
