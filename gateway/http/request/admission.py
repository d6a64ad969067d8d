"""Admission of requests: who asks, whether they may, how much of it, and whether that still holds.

`AdmissionControl.admit` authenticates, applies limits and authorises; what it returns is the
`Admission` of the request, by which a handler charges, records and rechecks what it answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, Protocol

from aiohttp import web

from gateway.access.credentials.token import key_id_of
from gateway.access.grants.grant import Grant
from gateway.access.keyring import Keyring
from gateway.access.keys.key import Key
from gateway.access.policy.decision import EXPIRED, REVOKED, SUSPENDED, Allowed, Denied, View
from gateway.access.usage.access import Access
from gateway.errors import Forbidden, GatewayError, Unauthorized, Unavailable
from gateway.event import Event
from gateway.http.request.access_logging import CURRENT_ACCESS
from gateway.http.request.credentials import token_of
from gateway.http.request.in_flight import Holding, InFlight
from gateway.http.request.limits import AppliedLimits, PageAllowance

_ENDED = (REVOKED, EXPIRED, SUSPENDED)
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
    """What one request was let in with: its key, and what that sees under `action`.

    Whatever else is decided for the request is decided here, too, so that `recheck` knows of it.
    """

    __slots__ = (
        "_allowance", "_also", "_control", "_grants", "_holding", "_request", "access", "action",
        "key", "view",
    )  # fmt: skip

    def __init__(
        self, control: AdmissionControl, request: web.Request, key: Key, action: str, view: View
    ) -> None:
        self.key = key
        self.action = action
        self.view = view
        # What the access log will say of the request.
        self.access: Access = request[CURRENT_ACCESS]
        self._control = control
        self._request = request
        self._also: dict[str, Allowed | Denied] | None = None
        self._grants: tuple[Grant, ...] | None = None
        self._allowance: PageAllowance | None = None
        self._holding: Holding | None = None

    def view_of(self, action: str) -> View | None:
        """What the key sees under another action; None if it may not."""
        decision = self._control.decide(self.key, action, self.access)
        if self._also is None:
            self._also = {}
        self._also[action] = decision
        return decision.view if isinstance(decision, Allowed) else None

    @property
    def grants(self) -> tuple[Grant, ...]:
        """The grants of the key, those of its roles included."""
        if self._grants is None:
            self._grants = self._control.keyring.grants_of(self.key)
        return self._grants

    async def recheck(self) -> None:
        """After a wait, and before anything is told: all that was decided must still hold.

        Raises as `admit` does, and `Unavailable` if the key may still, but not just the same.
        """
        before, control = self.key, self._control
        await control.knowledge.await_knowledge(before.id)
        key = await control.keyring.get(before.id)
        if key is None:
            raise Unauthorized("this key is gone")
        decision = control.decide(key, self.action, self.access)
        if isinstance(decision, Denied):
            raise _refusal(decision, self.action, key)
        same = (key.grants, key.roles, decision.view) == (before.grants, before.roles, self.view)
        if not same or not self._others_hold(key):
            raise Unavailable(
                "the grants of this key have just changed; send the request again",
                code="grants_changed",
            )
        self.key = key

    def _others_hold(self, key: Key) -> bool:
        control = self._control
        if self._grants is not None and control.keyring.grants_of(key) != self._grants:
            return False
        return all(
            control.decide(key, action, self.access) == before
            for action, before in (self._also or {}).items()
        )

    async def renew(self) -> bool:
        """After a wait that may have been long: let in once more; whether it sees the same."""
        again = await self._control.admit(self._request, self.action)
        same = again.view == self.view
        self.key, self.view = again.key, again.view
        self._request[ADMISSION] = self
        return same

    @property
    def holding(self) -> Holding:
        """The bytes that the request holds until it has been answered."""
        if self._holding is None:
            self._holding = self._control.in_flight.of(self._request, self.key.id)
        return self._holding

    def most_events(self) -> int:
        """How many events the key may be sent now; raises if none."""
        self._allowance = self._control.limits.page(self._request, self.key)
        return self._allowance.events

    def charge(self, sizes: Sequence[int]) -> int:
        """Of events of these sizes, how many may be sent, after `most_events`: counted as sent."""
        assert self._allowance is not None
        self.access.events = self._allowance.take(sizes)
        return self.access.events

    async def deliver(self, events: list[Event], reached: int) -> tuple[list[Event], int]:
        """Recheck, and charge as many of the events of a page as may be sent: these, and how far
        they reach."""
        await self.recheck()
        count = self.charge([len(event.json) for event in events])
        if count == len(events):
            return events, reached
        return events[:count], events[count - 1].offset


ADMISSION: web.RequestKey[Admission] = web.RequestKey("admission", Admission)


async def recheck(request: web.Request) -> None:
    """`Admission.recheck`, where the request has been let in."""
    admission = request.get(ADMISSION)
    if admission is not None:
        await admission.recheck()


class AdmissionControl:
    """Decides for each request. Every refusal carries a reason code."""

    def __init__(
        self,
        keyring: Keyring,
        limits: AppliedLimits,
        in_flight: InFlight,
        knowledge: Knowledge,
        *,
        basic_over_http: bool,
    ) -> None:
        self.keyring = keyring
        self.limits = limits
        self.in_flight = in_flight
        self.knowledge = knowledge
        self._basic_over_http = basic_over_http

    def decide(self, key: Key, action: str, access: Access) -> Allowed | Denied:
        """Whether the key may perform the action now, from where the request comes."""
        return self.keyring.decide(key, action, access.address or None)

    async def arrive(self, request: web.Request, action: str) -> Access:
        """Count a request of its address, once. Raises if it is one too many."""
        access = request[CURRENT_ACCESS]
        again, access.attempted = bool(access.attempted), action
        if not again and self.limits.limits_addresses:
            await self.limits.admit_address(request, access.address or None)
        return access

    async def admit(self, request: web.Request, *actions: str) -> Admission:
        """Let in the key of a request that has a grant of one of the actions, by the first of them.

        Raises `Unauthorized` or `Forbidden`.
        """
        for action in actions[:-1]:
            try:
                return await self._admit_for(request, action)
            except Forbidden:
                continue
        return await self._admit_for(request, actions[-1])

    async def _admit_for(self, request: web.Request, action: str) -> Admission:
        access = await self.arrive(request, action)
        again = access.key is not None
        token = token_of(request, self._basic_over_http)
        key = access.key = self.keyring.recall(token)
        if key is None:
            key = await self._authenticate(token, request, access)
        return await self._admit(key, request, action, again)

    async def _authenticate(self, token: str, request: web.Request, access: Access) -> Key:
        async def failed() -> None:
            access.claimed = key_id_of(token) or ""
            await self.limits.failed(request, access.address or None)

        key = access.key = await self.keyring.authenticate(token, failed)
        if key is None:
            raise Unauthorized("no such key; check that it was copied whole")
        access.claimed = ""
        return key

    async def admit_key(self, key_id: str, request: web.Request, action: str) -> Admission:
        """Let in the key that a ticket names."""
        access = await self.arrive(request, action)
        again = access.key is not None
        key = access.key = await self.keyring.get(key_id)
        if key is None:
            await self.limits.failed(request, access.address or None)
            raise Unauthorized("the key of this ticket is gone")
        return await self._admit(key, request, action, again)

    async def refuse_ticket(self, request: web.Request) -> NoReturn:
        """Count a ticket that opens nothing as a wrong key is counted, and refuse it."""
        await self.limits.failed(request, request[CURRENT_ACCESS].address or None)
        raise Unauthorized(
            "the ticket is unknown, over, or was used; ask for a new one", code="invalid_ticket"
        )

    async def _admit(self, key: Key, request: web.Request, action: str, again: bool) -> Admission:
        """What the key may now, if anything; counted once for each request."""
        if not self.knowledge.fresh:
            await self.knowledge.await_knowledge(key.id)
        key = self.keyring.known(key.id) or key
        access = request[CURRENT_ACCESS]
        decision = self.decide(key, action, access)
        if isinstance(decision, Denied) and decision in _ENDED:
            # Not counted: what is refused from memory need not be limited.
            raise _refusal(decision, action, key)
        if not again:
            if self.limits.limits_requests(key):
                await self.limits.admit(request, key)
                # It may have taken a while: what has changed meanwhile counts.
                await self.knowledge.await_knowledge(key.id)
                key = self.keyring.known(key.id) or key
                decision = self.decide(key, action, access)
            # Before what is denied, so that another attempt of the request needs no look at it.
            self.limits.throttle.check(key)
        if isinstance(decision, Denied):
            raise _refusal(decision, action, key)
        admission = request[ADMISSION] = Admission(self, request, key, action, decision.view)
        return admission


def _refusal(decision: Denied, action: str, key: Key) -> GatewayError:
    if decision == EXPIRED and key.successor:
        return Unauthorized(
            f"key {key.successor} has taken over from this one; use that", code=decision.reason
        )
    if decision in _ENDED:
        return Unauthorized(_REASONS[decision.reason], code=decision.reason)
    detail = _REASONS.get(decision.reason, f"no grant of this key allows the action `{action}`")
    return Forbidden(detail, code=decision.reason, action=action)
