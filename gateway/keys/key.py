"""A provisioning key as it is stored: everything but the secret."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.clock import format_rfc3339
from gateway.keys.grant import Grant


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key. Times are seconds since 1970; `digest` is described in `gateway.keys.token`."""

    id: str
    digest: bytes
    name: str
    purpose: str
    owner: str = ""
    grants: tuple[Grant, ...] = ()
    created_at: float
    expires_at: float
    revoked_at: float | None = None
    revoked_reason: str = ""
    revision: int = 0

    def state(self, now: float) -> str:
        """`active`, `expired` or `revoked`; revoked stays revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if now >= self.expires_at else "active"

    def public(self, now: float) -> dict[str, Any]:
        """What administration shows of it: never the digest."""
        shown: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "purpose": self.purpose,
            "owner": self.owner,
            "state": self.state(now),
            "created_at": _time(self.created_at),
            "expires_at": _time(self.expires_at),
            "grants": msgspec.to_builtins(self.grants),
        }
        if self.revoked_at is not None:
            shown["revoked_at"] = _time(self.revoked_at)
            shown["revoked_reason"] = self.revoked_reason
        return shown


def _time(seconds: float) -> str:
    return format_rfc3339(int(seconds * 1_000_000))
