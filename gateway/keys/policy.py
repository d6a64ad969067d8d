"""Decisions: may this key do that, and what does it see then. Pure; default deny, deny wins."""

from __future__ import annotations

import msgspec

from gateway.keys.grant import Grant
from gateway.keys.key import Key
from gateway.match.scope import Scope, Test, all_of, any_of


class View(msgspec.Struct, frozen=True):
    """What one key sees of the log. Hashable; equal views see the same."""

    allowed: tuple[Scope, ...]
    denied: tuple[Scope, ...] = ()

    def compile(self) -> Test:
        """A function that says whether the view contains an event (or a draft)."""
        sees = any_of([scope.compile() for scope in self.allowed])
        if not self.denied:
            return sees
        hidden = any_of([scope.compile() for scope in self.denied])
        return all_of([sees, lambda event: not hidden(event)])


class Allowed(msgspec.Struct, frozen=True):
    """The key may; `view` says on what."""

    view: View


class Denied(msgspec.Struct, frozen=True):
    """The key may not; `reason` is a stable code."""

    reason: str


REVOKED = Denied("key_revoked")
EXPIRED = Denied("key_expired")
NOT_GRANTED = Denied("action_not_granted")


def decide(key: Key, action: str, now: float) -> Allowed | Denied:
    """Whether `key` may perform `action` at `now` (seconds since 1970)."""
    if key.revoked_at is not None:
        return REVOKED
    if now >= key.expires_at:
        return EXPIRED
    return decide_grants(key.grants, action)


def decide_grants(grants: tuple[Grant, ...], action: str) -> Allowed | Denied:
    """The same for grants alone, whatever the key's state."""
    relevant = [grant for grant in grants if action in grant.actions]
    allowed = tuple(dict.fromkeys(g.scope() for g in relevant if g.effect == "allow"))
    if not allowed:
        return NOT_GRANTED
    denied = tuple(dict.fromkeys(g.scope() for g in relevant if g.effect == "deny"))
    return Allowed(View(allowed, denied))
