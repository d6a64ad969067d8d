"""Expiry of keys, the warnings before it, and when they are to be rotated. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.access.keys.key import Key
from gateway.access.keys.lifecycle import IDLE_WHEN_REPLACED
from gateway.oversight.detection.usage_profile import UsageProfile

ROTATION_DUE = "key.rotation_due"


class Notice(msgspec.Struct, frozen=True, order=True):
    """Notice of a key's expiry, or that it is to be rotated, due at a time (seconds since 1970).
    `id` is that of its event."""

    at: float
    id: str
    key_id: str
    action: str
    ends_at: float


def notices(key: Key, warnings: Iterable[int]) -> list[Notice]:
    """Notices of a key's expiry, in order; `warnings` are seconds before it. Warnings that would be
    due from the beginning are left out."""
    if key.unreadable or key.revoked_at is not None or key.change == "drained" or key.person:
        # Its end has an event of its own, or is that a person has stayed away.
        return []
    ends_at = key.ends_at
    draining = key.drains_until is not None
    began_at = max(key.created_at, key.changed_at) if draining else key.created_at
    name = f"key-{key.id}"
    over = f"{name}-expired-{int(ends_at)}"
    found = [Notice(ends_at, over, key.id, "key.expired", ends_at)]
    for seconds in warnings:
        at = ends_at - seconds
        if at > began_at:
            event_id = f"{name}-expiring-{int(ends_at)}-{seconds}"
            found.append(Notice(at, event_id, key.id, "key.expiring", ends_at))
    return sorted(found)


def rotation_notice(key: Key) -> Notice | None:
    """Notice that a key is to be rotated; None without a schedule, and once it was or has ended."""
    at = key.rotate_by
    if key.unreadable or at is None or at >= key.expires_at:
        return None
    return Notice(at, f"key-{key.id}-rotation-due-{int(at)}", key.id, ROTATION_DUE, key.ends_at)


def may_end_early(key: Key, profile: UsageProfile, successor: UsageProfile, now: float) -> bool:
    """Whether a draining key may end early: its successor is in use, and it is idle."""
    if key.state(now) != "draining" or not successor.used_at:
        return False
    return now - max(profile.used_at, key.changed_at) >= IDLE_WHEN_REPLACED
