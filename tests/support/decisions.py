"""Decisions over a key as the keyring makes them, without its memory."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.access.grants.grant import Grant
from gateway.access.keys.key import Key
from gateway.access.policy.decision import (
    Allowed,
    Denied,
    decide_grants,
    decide_state,
    effective_grants,
)


def decide(
    key: Key,
    action: str,
    now: float,
    *,
    address: str | None = None,
    roles: Mapping[str, tuple[Grant, ...]] | None = None,
) -> Allowed | Denied:
    """Whether `key` may perform `action` at `now` (seconds since 1970) from `address`."""
    denied = decide_state(key, now)
    if denied is not None:
        return denied
    return decide_grants(effective_grants(key, roles or {}), action, now=now, address=address)
