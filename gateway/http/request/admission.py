"""Admission of requests: authentication, limits, authorisation, and rechecks.

`AdmissionControl.admit` returns the `Admission` of a request, with which its handler charges,
records and rechecks the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

import msgspec
from aiohttp import web

from gateway.access.credentials.pepper import Peppers
from gateway.access.credentials.session import Session
from gateway.access.credentials.ticket import Ticket
from gateway.access.credentials.token import key_id_of
from gateway.access.credentials.viewer import PREFIX as VIEWER
from gateway.access.credentials.viewer import Viewer
from gateway.access.grants.grant import Grant
from gateway.access.keyring import Keyring
from gateway.access.keys.key import Key
from gateway.access.policy.decision import (
    EXPIRED,
    REVOKED,
    SUSPENDED,
    Allowed,
    Denied,
    View,
    decide_state,
)
from gateway.access.policy.narrowing import within_lookback
from gateway.access.sessions import Sessions
from gateway.access.usage.access import Access
from gateway.errors import Forbidden, GatewayError, InvalidRequest, Unauthorized, Unavailable
from gateway.event import Event
from gateway.http.credentials.cookie import session_secret
from gateway.http.credentials.guard import check_signed_in
from gateway.http.credentials.token import SUBPROTOCOLS, sends_key, sent_viewer_token, token_of
from gateway.http.credentials.viewer import viewer_of_token, viewer_over
from gateway.http.request.access_logging import CURRENT_ACCESS
from gateway.http.request.in_flight import Holding, InFlight
from gateway.http.request.limits import AppliedLimits, PageAllowance
from gateway.streaming.key_freshness import KeyFreshness

# Headers of the console's pages: which page asks, and that no person has caused the request.
_PAGE, _BACKGROUND = "X-Audit-Page", "X-Audit-Background"
_PAGES = re.compile(r"console/[a-z-]{1,32}", re.ASCII)
# Its requests last, whether a person is there or not.
_STREAM = "/v1/stream"
_ENDED = (REVOKED, EXPIRED, SUSPENDED)
_REASONS = {
    "key_revoked": "this key was revoked; ask for a new one",
    "key_expired": "this key has expired; ask for a new one",
    "key_suspended": "this key is suspended; ask who answers for it",
    "key_unreadable": "this version of the gateway cannot read this key; ask who runs it",
    "role_unreadable": "this version of the gateway cannot read a role of it; ask who runs it",
    "unknown_time_zone": "the gateway's machine lacks the time zone of a grant of this key",
    "outside_hours": "the grants of this key do not count at this hour",
    "address_not_allowed": "the grants of this key do not count from this address",
    "denied_by_grant": "a grant of this key, or of one of its roles, denies this action",
}


class Admission(msgspec.Struct, eq=False, gc=False):
    """Admission of one request: its key, and what that key sees under `action`.

    All other decisions about the request are made here too, so that `recheck` covers them. `access`
    becomes the entry of the access log.
    """

    key: Key
    action: str
    view: View
    access: Access
    # The peppers by which its token was checked.
    peppers: Peppers
    _control: AdmissionControl
    # Of a person who has signed in to the console; None for requests with a key or ticket.
    session: Session | None = None
    viewer: Viewer | None = None
    _also: dict[str, Allowed | Denied] | None = None
    _grants: tuple[Grant, ...] | None = None
    _allowance: PageAllowance | None = None
    _holding: Holding | None = None

    def view_of(self, action: str) -> View | None:
        """View of the key under another action; None if that is denied."""
        decision = self._decide(self.key, action)
        self._also = {**(self._also or {}), action: decision}
        return decision.view if isinstance(decision, Allowed) else None

    @property
    def grants(self) -> tuple[Grant, ...]:
        """Grants of the key, including those of its roles."""
        if self._grants is None:
            self._grants = self._control.keyring.grants_of(self.key)
        return self._grants

    async def recheck(self) -> None:
        """Check after a wait, before answering, that all decisions still hold.

        Raises as `admit` does, and `Unavailable` if the key is allowed but sees something else.
        """
        before, control = self.key, self._control
        await control.knowledge.await_knowledge(before.id)
        if self.session is not None and await control.sessions.get(self.session.id) is None:
            raise session_over()
        if self.viewer is not None and control.keyring.now() >= self.viewer.expires_at:
            raise viewer_over()
        key = await control.keyring.get(before.id)
        if key is None:
            raise Unauthorized("this key is gone")
        decision = self._decide(key, self.action)
        if isinstance(decision, Denied):
            raise _refusal(decision, self.action, key)
        same = (key.grants, key.roles, decision.view) == (before.grants, before.roles, self.view)
        if not same or not self._others_hold(key):
            raise Unavailable(
                "the grants of this key have just changed; send the request again",
                code="grants_changed",
            )
        self.key = key

    def _decide(self, key: Key, action: str) -> Allowed | Denied:
        """Decision on an action of a key, as far as its viewer may look, if one asks."""
        decision = self._control.decide(key, action, self.access)
        if self.viewer is None or isinstance(decision, Denied):
            return decision
        return Allowed(within_lookback(decision.view, self.viewer.lookback))

    def _others_hold(self, key: Key) -> bool:
        control = self._control
        if self._grants is not None and control.keyring.grants_of(key) != self._grants:
            return False
        return all(
            self._decide(key, action) == before for action, before in (self._also or {}).items()
        )

    async def renew(self, request: web.Request) -> bool:
        """Admit once more after a long wait; return whether the view is the same."""
        again = await self._control.admit_reader(request, self.action)
        same = again.view == self.view
        self.key, self.view = again.key, again.view
        request[ADMISSION] = self
        return same

    def holding(self, request: web.Request) -> Holding:
        """Bytes that the request holds until it is answered."""
        if self._holding is None:
            self._holding = self._control.in_flight.of(request, self.key.id)
        return self._holding

    def most_events(self, request: web.Request) -> int:
        """Number of events that the key may be sent now. Raises if none."""
        self._allowance = self._control.limits.page(request, self.key)
        return self._allowance.events

    def charge(self, sizes: Sequence[int]) -> int:
        """Count as sent what fits of events of these sizes (bytes); return how many."""
        assert self._allowance is not None
        self.access.events = self._allowance.take(sizes)
        return self.access.events

    async def deliver(self, events: list[Event], reached: int) -> tuple[list[Event], int]:
        """Recheck and charge a page; return the events to send, and the offset they reach."""
        await self.recheck()
        count = self.charge([len(event.json) for event in events])
        if count == len(events):
            return events, reached
        return events[:count], events[count - 1].offset


ADMISSION: web.RequestKey[Admission] = web.RequestKey("admission", Admission)


async def recheck(request: web.Request) -> None:
    """Call `Admission.recheck` if the request was admitted."""
    admission = request.get(ADMISSION)
    if admission is not None:
        await admission.recheck()


class AdmissionControl:
    """Admission control of all requests. Every refusal has a reason code."""

    def __init__(
        self,
        keyring: Keyring,
        limits: AppliedLimits,
        in_flight: InFlight,
        knowledge: KeyFreshness,
        sessions: Sessions,
    ) -> None:
        self.keyring = keyring
        self.limits = limits
        self.in_flight = in_flight
        self.knowledge = knowledge
        self.sessions = sessions

    def decide(self, key: Key, action: str, access: Access) -> Allowed | Denied:
        """Decision on an action of the key, now and from the address of the request."""
        return self.keyring.decide(key, action, access.address or None)

    async def arrive(self, request: web.Request, action: str) -> Access:
        """Count a request for its address, once. Raises if the limit is exceeded."""
        access = request[CURRENT_ACCESS]
        again, access.attempted = bool(access.attempted), action
        if not again and self.limits.limits_addresses:
            await self.limits.admit_address(request, access.address or None)
        return access

    async def admit(self, request: web.Request, *actions: str) -> Admission:
        """Admit a request whose key has a grant of one of the actions, under the first of them.

        Raises `Unauthorized` or `Forbidden`.
        """
        *others, last = actions
        for action in others:
            try:
                return await self._admit(request, action)
            except Forbidden:
                continue
        return await self._admit(request, last)

    async def admit_ticket(self, ticket: Ticket, request: web.Request, action: str) -> Admission:
        """Admit the key of a ticket, or the person whose session has made it."""
        return await self._admit(request, action, ticket)

    async def admit_reader(self, request: web.Request, action: str) -> Admission:
        """Admit a key, or an embedded viewer by its token."""
        if (viewer := await self.viewer_of(request, action)) is not None:
            return await self.admit_viewer(viewer, request, action)
        return await self._admit(request, action)

    async def viewer_of(self, request: web.Request, action: str) -> Viewer | None:
        """The viewer whose token a request has, if any; a wrong one counts like a wrong key."""
        headers = request.headers
        if VIEWER not in headers.get("Authorization", "") and SUBPROTOCOLS not in headers:
            return None
        try:
            text = sent_viewer_token(request)
            return viewer_of_token(text, self.keyring.peppers, self.keyring.now()) if text else None
        except Unauthorized:
            address = (await self.arrive(request, action)).address
            await self.limits.failed(request, address or None)
            raise

    async def admit_viewer(self, viewer: Viewer, request: web.Request, action: str) -> Admission:
        """Admit the key of a viewer, which sees no more than its ticket says."""
        request[CURRENT_ACCESS].subject = viewer.subject
        admission = await self._admit(request, action, viewer)
        view = within_lookback(admission.view, viewer.lookback)
        admission.viewer, admission.view = viewer, view
        return admission

    async def _admit(
        self, request: web.Request, action: str, ticket: Ticket | Viewer | None = None
    ) -> Admission:
        """Admit the key of the ticket, or else of the credentials; count each request once."""
        access = await self.arrive(request, action)
        again, address = access.key is not None, access.address or None
        peppers = self.keyring.peppers
        if ticket is not None:
            key, session = await self._key_of_ticket(ticket, request)
        else:
            key, session = await self._key_of(request, access)
        if not self.knowledge.fresh:
            await self.knowledge.await_knowledge(key.id)
        key = self.keyring.cached(key.id) or key
        decision = self.keyring.decide(key, action, address)
        if isinstance(decision, Denied) and decision in _ENDED:
            # Not counted: a refusal from memory costs little.
            raise _refusal(decision, action, key)
        if not again:
            if self.limits.limits_requests(key):
                await self.limits.admit(request, key)
                # The key may have changed while the limits were asked.
                await self.knowledge.await_knowledge(key.id)
                key = self.keyring.cached(key.id) or key
                decision = self.keyring.decide(key, action, address)
            # Before the denial, so that further attempts need no look at the request.
            self.limits.throttle.check(key)
        if isinstance(decision, Denied):
            raise _refusal(decision, action, key)
        admitted = Admission(key, action, decision.view, access, peppers, self, session)
        request[ADMISSION] = admitted
        return admitted

    async def _authenticate(self, token: str, request: web.Request, access: Access) -> Key:
        async def failed() -> None:
            access.claimed = key_id_of(token) or ""
            await self.limits.failed(request, access.address or None)

        key = access.key = await self.keyring.authenticate(token, failed)
        if key is None:
            raise Unauthorized("no such key; check that it was copied whole")
        access.claimed = ""
        return key

    async def identify(self, request: web.Request, token: str = "") -> tuple[Key, Session | None]:
        """Key of a token, or of the credentials of a request, whatever it is granted; counted and
        limited like any request. Raises `Unauthorized`."""
        access = await self.arrive(request, "identify")
        if not token:
            key, session = await self._key_of(request, access)
        else:
            key, session = await self._authenticate(token, request, access), None
        return await self._living(request, key), session

    async def identify_ticket(self, request: web.Request, ticket: Ticket | Viewer) -> Key:
        """The key of a ticket, as `identify` gives it."""
        await self.arrive(request, "identify")
        key, _ = await self._key_of_ticket(ticket, request)
        return await self._living(request, key)

    async def _living(self, request: web.Request, key: Key) -> Key:
        """A key that has not ended, within its limits."""
        await self.knowledge.await_knowledge(key.id)
        key = self.keyring.cached(key.id) or key
        if (denied := decide_state(key, self.keyring.now())) is not None:
            raise _refusal(denied, "", key)
        if self.limits.limits_requests(key):
            await self.limits.admit(request, key)
        self.limits.throttle.check(key)
        return key

    async def _key_of(self, request: web.Request, access: Access) -> tuple[Key, Session | None]:
        """Key of the credentials of a request, and its session if it comes by cookie."""
        if "Cookie" in request.headers and (secret := session_secret(request)) is not None:
            return await self._signed_in(request, secret, access)
        token = token_of(request)
        recalled = access.key = self.keyring.recall(token)
        return recalled or await self._authenticate(token, request, access), None

    async def _signed_in(
        self, request: web.Request, secret: str, access: Access
    ) -> tuple[Key, Session]:
        """Key of a cookie, and its session."""
        if sends_key(request):
            raise both_sent()
        check_signed_in(request, secret)
        session = await self.sessions.find(secret)
        key = None if session is None else await self.keyring.get(session.key_id)
        if session is None or key is None:
            await self.limits.failed(request, access.address or None)
            raise session_over()
        access.key, access.session = key, session.id
        page = request.headers.get(_PAGE, "")
        access.page = page if _PAGES.fullmatch(page) else ""
        if _BACKGROUND not in request.headers and request.path != _STREAM:
            await self.sessions.use(session)
        return key, session

    async def _key_of_ticket(
        self, ticket: Ticket | Viewer, request: web.Request
    ) -> tuple[Key, Session | None]:
        """Key of a ticket, and the session of the person who has made it."""
        access, session = request[CURRENT_ACCESS], None
        if ticket.session:
            session = await self.sessions.get(ticket.session)
            if session is None:
                await self.limits.failed(request, access.address or None)
                raise session_over()
            access.session = session.id
        key = access.key = await self.keyring.get(ticket.key_id)
        if key is None:
            await self.limits.failed(request, access.address or None)
            raise Unauthorized("the key of this ticket is gone")
        return key, session

    async def refuse_ticket(self, request: web.Request) -> NoReturn:
        """Refuse an invalid ticket, and count it like a wrong key."""
        await self.limits.failed(request, request[CURRENT_ACCESS].address or None)
        raise Unauthorized(
            "the ticket is unknown, over, or was used; ask for a new one", code="invalid_ticket"
        )


def both_sent() -> InvalidRequest:
    """Error for a request with a key or ticket, and a session."""
    return InvalidRequest("send a key or the session's cookie, not both", code="ambiguous_key")


def session_over() -> Unauthorized:
    """Error for a session that has ended."""
    return Unauthorized("this session has ended; sign in again", code="session_ended")


def _refusal(decision: Denied, action: str, key: Key) -> GatewayError:
    if decision == EXPIRED and key.successor:
        return Unauthorized(
            f"key {key.successor} has taken over from this one; use that", code=decision.reason
        )
    if decision in _ENDED:
        return Unauthorized(_REASONS[decision.reason], code=decision.reason)
    detail = _REASONS.get(decision.reason, f"no grant of this key allows the action `{action}`")
    return Forbidden(detail, code=decision.reason, action=action)
