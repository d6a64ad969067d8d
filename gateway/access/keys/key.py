"""Provisioning keys as they are stored: everything but the secret."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.access.grants.grant import Grant, defects_in
from gateway.access.keys.key_limits import NO_LIMITS, KeyLimits
from gateway.access.keys.operator import Operator
from gateway.clock import format_time


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key. Times are seconds since 1970; for `digest` see
    `gateway.access.credentials.token`."""

    id: str
    digest: bytes
    # Id of the pepper of the digest; "" for keys from before peppers had ids.
    pepper: str = ""
    name: str
    purpose: str
    owner: str = ""
    grants: tuple[Grant, ...] = ()
    created_at: float
    expires_at: float
    roles: tuple[str, ...] = ()
    limits: KeyLimits = NO_LIMITS
    revoked_at: float | None = None
    revoked_reason: str = ""
    suspended_at: float | None = None
    suspended_until: float | None = None
    suspended_reason: str = ""
    throttled_until: float | None = None
    # After a rotation: the successor, and when this key stops at the latest.
    successor: str = ""
    drains_until: float | None = None
    predecessor: str = ""
    # Its issuer: a kid, or `cli:` and a user; "" for keys from before that was stored.
    created_by: str = ""
    # The newest change and who made it: a kid, `cli:` and a user, or a program.
    change: str = "created"
    changed_by: str = "gateway"
    # Operator of a change by the command line.
    changed_from: Operator | None = None
    changed_at: float = 0.0
    revision: int = 0

    @property
    def unreadable(self) -> str:
        """Why its stored form cannot be read, if so; such a key may do nothing."""
        return ""

    @property
    def ends_at(self) -> float:
        """When the key expires or has drained."""
        return min(self.expires_at, self.drains_until or self.expires_at)

    def state(self, now: float) -> str:
        """`active`, `draining`, `suspended`, `expired` or `revoked`, which is for good; or
        `unreadable` where another version wrote it."""
        if self.unreadable:
            return "unreadable"
        if self.revoked_at is not None:
            return "revoked"
        # Like `ends_at`, without its calls, as each request asks.
        drains = self.drains_until
        if now >= self.expires_at or (drains and now >= drains):
            return "expired"
        until = self.suspended_until
        if self.suspended_at is not None and (until is None or now < until):
            return "suspended"
        return "active" if drains is None else "draining"

    def throttled(self, now: float) -> bool:
        """Whether its limits are lowered for the time being."""
        return self.throttled_until is not None and now < self.throttled_until

    def public(self, now: float) -> dict[str, Any]:
        """Members that administration shows, without the digest."""
        shown: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "purpose": self.purpose,
            "owner": self.owner,
            "state": self.state(now),
            "created_at": format_time(self.created_at),
            "expires_at": format_time(self.expires_at),
            "grants": tuple(grant.shown() for grant in self.grants),
        }
        if defects := defects_in(self.grants):
            shown["problems"] = defects
        if self.roles:
            shown["roles"] = list(self.roles)
        if self.limits != NO_LIMITS:
            shown["limits"] = self.limits.public()
        for name in (
            "revoked_at",
            "suspended_at",
            "suspended_until",
            "throttled_until",
            "drains_until",
        ):
            moment = getattr(self, name)
            if moment is not None:
                shown[name] = format_time(moment)
        for name in (
            "revoked_reason", "suspended_reason", "successor", "predecessor", "created_by",
            "unreadable",
        ):  # fmt: skip
            if getattr(self, name):
                shown[name] = getattr(self, name)
        return shown
