"""What can become of a key: pure functions from a key to the key after the change.

active -> suspended -> active      suspend, resume (or its end)
active -> draining -> expired      rotate: the successor takes over within the overlap
any    -> revoked                  revoke; for good
"""

from __future__ import annotations

import msgspec

from gateway.errors import Conflict, InvalidRequest
from gateway.keys.key import Key
from gateway.keys.token import digest, new_token

MAX_REASON = 256
# A predecessor whose successor is in use ends early once it has been idle for so long (seconds).
IDLE_WHEN_REPLACED = 900


def check_reason(reason: object) -> str:
    """The reason given for a change, if it is one."""
    if not isinstance(reason, str) or len(reason) > MAX_REASON:
        raise InvalidRequest(f"reason: a string of at most {MAX_REASON} characters")
    return reason


def revoke(key: Key, now: float, reason: str) -> Key:
    """Revoke for good; the first reason stands."""
    if key.revoked_at is not None:
        return key
    return msgspec.structs.replace(key, revoked_at=now, revoked_reason=reason)


def suspend(key: Key, now: float, reason: str, until: float | None = None) -> Key:
    """Suspend until `resume`, or until a moment."""
    _refuse_ended(key, now, "suspended")
    return msgspec.structs.replace(
        key, suspended_at=now, suspended_until=until, suspended_reason=reason
    )


def resume(key: Key, now: float) -> Key:
    """End a suspension."""
    if key.state(now) != "suspended":
        raise Conflict(f"key {key.id} is {key.state(now)}, not suspended", code="not_suspended")
    return msgspec.structs.replace(
        key, suspended_at=None, suspended_until=None, suspended_reason=""
    )


def rotate(
    key: Key, now: float, *, overlap: int, max_life: int, pepper: bytes
) -> tuple[Key, Key, str]:
    """`(predecessor, successor, token)`: the same rights, and a life that policy allows.

    The successor lives as long as the key was made for, counted from now, and never longer
    than `max_life` seconds. The predecessor drains for `overlap` seconds at most.
    """
    if key.state(now) != "active":
        raise Conflict(
            f"key {key.id} is {key.state(now)}; only an active key is rotated", code="not_active"
        )
    key_id, token = new_token()
    life = min(key.expires_at - key.created_at, max_life)
    successor = msgspec.structs.replace(
        key,
        id=key_id,
        digest=digest(pepper, token),
        created_at=now,
        expires_at=now + life,
        predecessor=key.id,
        revision=0,
    )
    predecessor = msgspec.structs.replace(key, successor=key_id, drains_until=now + overlap)
    return predecessor, successor, token


def end_draining(key: Key, now: float) -> Key:
    """The successor is in use and this key is not: it need not wait for the end of the overlap."""
    return msgspec.structs.replace(key, drains_until=min(now, key.ends_at))


def _refuse_ended(key: Key, now: float, what: str) -> None:
    state = key.state(now)
    if state in ("revoked", "expired"):
        raise Conflict(f"key {key.id} is {state} and cannot be {what}", code="key_ended")
