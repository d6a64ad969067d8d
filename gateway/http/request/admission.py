"""What a request was let in with: its key, what it sees, and whether that still holds."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from gateway.access.grants.grant import Grant
from gateway.access.keyring import Keyring
from gateway.access.keys.key import Key
from gateway.access.policy.decision import EXPIRED, REVOKED, SUSPENDED, Allowed, Denied, View
from gateway.errors import Forbidden, GatewayError, Unauthorized, Unavailable

ENDED = (REVOKED, EXPIRED, SUSPENDED)
_REASONS = {
    "key_revoked": "this key was revoked; ask for a new one",
    "key_expired": "this key has expired; ask for a new one",
    "key_suspended": "this key is suspended; ask who answers for it",
    "key_unreadable": "this version of the gateway cannot read this key; ask who runs it",
    "role_unreadable": "this version of the gateway cannot read a role of this key; ask who runs "
    "it",
    "unknown_time_zone": "the gateway's machine lacks the time zone of a grant of this key",
    "outside_hours": "the grants of this key do not count at this hour",
    "address_not_allowed": "the grants of this key do not count from this address",
    "denied_by_grant": "a grant of this key, or of one of its roles, denies this action",
}


class Knowledge(Protocol):
    """Whether it is known what keys may do now."""

    @property
    def fresh(self) -> bool:
        """Whether it is known of all of them."""

    async def await_knowledge(self, key_id: str) -> None:
        """Return when it is known of that key. Raises where it cannot be."""


class Admission:
    """The key of a request and what it sees under `action`.

    What is decided for the request beside that is decided here, too, so that `recheck` knows of it.
    """

    __slots__ = ("_address", "_also", "_grants", "_keyring", "_knowledge", "action", "key", "view")

    def __init__(
        self,
        key: Key,
        action: str,
        view: View,
        address: str | None,
        keyring: Keyring,
        knowledge: Knowledge,
    ) -> None:
        self.key = key
        self.action = action
        self.view = view
        self._address = address
        self._keyring = keyring
        self._knowledge = knowledge
        self._also: dict[str, Allowed | Denied] | None = None
        self._grants: tuple[Grant, ...] | None = None

    def view_of(self, action: str) -> View | None:
        """What the key sees under another action; None if it may not."""
        decision = self._keyring.decide(self.key, action, self._address)
        if self._also is None:
            self._also = {}
        self._also[action] = decision
        return decision.view if isinstance(decision, Allowed) else None

    @property
    def grants(self) -> tuple[Grant, ...]:
        """The grants of the key, those of its roles included."""
        if self._grants is None:
            self._grants = self._keyring.grants_of(self.key)
        return self._grants

    async def recheck(self) -> None:
        """After a wait, and before anything is told: all that was decided must still hold.

        Raises as admission does, and `Unavailable` if the key may still, but not just the same.
        """
        before = self.key
        await self._knowledge.await_knowledge(before.id)
        key = await self._keyring.get(before.id)
        if key is None:
            raise Unauthorized("this key is gone")
        decision = self._keyring.decide(key, self.action, self._address)
        if isinstance(decision, Denied):
            raise refusal(decision, self.action, key)
        same = (key.grants, key.roles, decision.view) == (before.grants, before.roles, self.view)
        if not same or not self._others_hold(key):
            raise Unavailable(
                "the grants of this key have just changed; send the request again",
                code="grants_changed",
            )

    def _others_hold(self, key: Key) -> bool:
        if self._grants is not None and self._keyring.grants_of(key) != self._grants:
            return False
        decide, address = self._keyring.decide, self._address
        return all(
            decide(key, action, address) == before for action, before in (self._also or {}).items()
        )


ADMISSION: web.RequestKey[Admission] = web.RequestKey("admission", Admission)


async def recheck(request: web.Request) -> None:
    """`Admission.recheck`, where the request has been let in."""
    admission = request.get(ADMISSION)
    if admission is not None:
        await admission.recheck()


def refusal(decision: Denied, action: str, key: Key) -> GatewayError:
    """The error that a denial becomes."""
    if decision == EXPIRED and key.successor:
        return Unauthorized(
            f"key {key.successor} has taken over from this one; use that", code=decision.reason
        )
    if decision in ENDED:
        return Unauthorized(_REASONS[decision.reason], code=decision.reason)
    detail = _REASONS.get(decision.reason, f"no grant of this key allows the action `{action}`")
    return Forbidden(detail, code=decision.reason, action=action)
