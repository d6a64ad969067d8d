"""From the credentials of a request to the key and what it may do."""

from __future__ import annotations

import base64
import binascii
from typing import NoReturn

from aiohttp import web

from gateway.access.credentials.ticket import PREFIX as TICKET
from gateway.access.credentials.token import key_id_of
from gateway.access.keyring import Keyring
from gateway.access.keys.key import Key
from gateway.access.policy.decision import Denied, View
from gateway.clock import Clock
from gateway.errors import Forbidden, InvalidRequest, Unauthorized
from gateway.http.connection.address import client_address, is_local, is_secure
from gateway.http.request.access_logging import CURRENT_ACCESS
from gateway.http.request.admission import ADMISSION, ENDED, Admission, Knowledge, refusal
from gateway.http.request.limits import AppliedLimits
from gateway.http.request.throttle import Throttle

# Credentials that a browser can send with a WebSocket; the rest is the key in base64url.
WEBSOCKET_BEARER = "base64url.bearer.authorization.audit."
_SCHEMES = ("bearer", "token", "splunk")


class Authenticator:
    """Decides for each request. Every refusal carries a reason code."""

    def __init__(
        self,
        keyring: Keyring,
        clock: Clock,
        limits: AppliedLimits,
        knowledge: Knowledge,
        *,
        basic_over_http: bool,
    ) -> None:
        self._keyring = keyring
        self._basic_over_http = basic_over_http
        self._knowledge = knowledge
        self._throttle = Throttle(clock)
        self._limits = limits

    async def arrive(self, request: web.Request, action: str) -> str | None:
        """Count a request of its address, once; the address. Raises if it is one too many."""
        access = request[CURRENT_ACCESS]
        again, access.attempted = bool(access.attempted), action
        address = access.address or None
        if not again and self._limits.limits_addresses:
            await self._limits.admit_address(request, address)
        return address

    async def authorize(self, request: web.Request, action: str) -> tuple[Key, View]:
        """The key of the request and what it sees under `action`.

        Raises `Unauthorized` or `Forbidden`.
        """
        address = await self.arrive(request, action)
        access = request[CURRENT_ACCESS]
        again = access.key is not None
        token = _token(request, self._basic_over_http)
        if token.startswith(TICKET):
            raise Unauthorized(
                "this is a ticket: open the stream with ?ticket=.., or send it as a WebSocket "
                "subprotocol"
            )

        key = access.key = self._keyring.recall(token)
        if key is None:
            key = await self._authenticate(token, request, address)
        return key, await self._admit(key, request, action, address, again)

    async def _authenticate(self, token: str, request: web.Request, address: str | None) -> Key:
        access = request[CURRENT_ACCESS]

        async def failed() -> None:
            access.claimed = key_id_of(token) or ""
            await self._limits.failed(request, address)

        key = access.key = await self._keyring.authenticate(token, failed)
        if key is None:
            raise Unauthorized("no such key; check that it was copied whole")
        access.claimed = ""
        return key

    async def authorize_key(
        self, key_id: str, request: web.Request, action: str
    ) -> tuple[Key, View]:
        """The same for a key that a ticket names."""
        address = await self.arrive(request, action)
        access = request[CURRENT_ACCESS]
        again = access.key is not None
        key = access.key = await self._keyring.get(key_id)
        if key is None:
            await self._limits.failed(request, address)
            raise Unauthorized("the key of this ticket is gone")
        return key, await self._admit(key, request, action, address, again)

    async def refuse_ticket(self, request: web.Request) -> NoReturn:
        """Count a ticket that opens nothing as a wrong key is counted, and refuse it."""
        await self._limits.failed(request, client_address(request))
        raise Unauthorized(
            "the ticket is unknown, over, or was used; ask for a new one", code="invalid_ticket"
        )

    async def _admit(
        self, key: Key, request: web.Request, action: str, address: str | None, again: bool
    ) -> View:
        """What the key sees now, if it may; counted once for each request."""
        if not self._knowledge.fresh:
            await self._knowledge.await_knowledge(key.id)
        key = self._keyring.known(key.id) or key
        decision = self._keyring.decide(key, action, address)
        if isinstance(decision, Denied) and decision in ENDED:
            # Not counted: what is refused from memory need not be limited.
            raise refusal(decision, action, key)
        if not again:
            if self._limits.limits_requests(key):
                await self._limits.admit(request, key)
                # It may have taken a while: what has changed meanwhile counts.
                await self._knowledge.await_knowledge(key.id)
                key = self._keyring.known(key.id) or key
                decision = self._keyring.decide(key, action, address)
            # Before what is denied, so that another attempt of the request needs no look at it.
            self._throttle.check(key)
        if isinstance(decision, Denied):
            raise refusal(decision, action, key)
        request[ADMISSION] = Admission(
            key, action, decision.view, address, self._keyring, self._knowledge
        )
        return decision.view

    def refuse_throttled(self, key: Key) -> None:
        """For what goes on for longer than a request: raises while the key is throttled."""
        self._throttle.refuse(key)


def _token(request: web.Request, basic_over_http: bool) -> str:
    sent = request.headers.getall("Authorization", [])
    if len(sent) > 1:
        # Whoever stands in front may have looked at another one.
        raise InvalidRequest("send one Authorization header", code="ambiguous_key")
    if sent:
        scheme, _, token = sent[0].partition(" ")
        if scheme.lower() == "basic":
            if not basic_over_http:
                _refuse_readable(request)
            return _password(token.strip())
        if scheme.lower() not in _SCHEMES:
            raise Unauthorized("send the key as `Authorization: Bearer <key>`", code="missing_key")
        return token.strip()
    for offered in offered_subprotocols(request):
        if offered.startswith(WEBSOCKET_BEARER):
            return _from_base64url(offered.removeprefix(WEBSOCKET_BEARER))
    raise Unauthorized("a key is needed: `Authorization: Bearer <key>`", code="missing_key")


def _refuse_readable(request: web.Request) -> None:
    """RFC 7617, section 4: Basic credentials are for connections that nobody else can read."""
    if not is_secure(request) and not is_local(request):
        raise Forbidden(
            "Basic credentials are taken over TLS only, as many programs send them unasked: use "
            "https (name the proxy that ends TLS in server.trusted_proxies, and have it send one "
            'X-Forwarded-Proto), or set server.basic = "always"',
            code="basic_needs_tls",
        )


def _password(credentials: str) -> str:
    """RFC 7617: the key is the password; the user name, and how it is encoded, is the client's
    business."""
    try:
        _, colon, password = base64.b64decode(credentials, validate=True).partition(b":")
    except ValueError:
        raise Unauthorized("the Basic credentials are not base64 of `user:key`") from None
    if not colon or not password:
        raise Unauthorized("send the key as the password of the Basic credentials")
    return password.decode("latin-1")


def _from_base64url(text: str) -> str:
    try:
        padded = text + "=" * (-len(text) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise Unauthorized("the key in the subprotocol is not base64url") from None


def offered_ticket(request: web.Request) -> str | None:
    """The ticket among the subprotocols of a WebSocket, if there is one."""
    for offered in offered_subprotocols(request):
        if offered.startswith(WEBSOCKET_BEARER):
            text = _from_base64url(offered.removeprefix(WEBSOCKET_BEARER))
            return text if text.startswith(TICKET) else None
    return None


def offered_subprotocols(request: web.Request) -> list[str]:
    """The values of `Sec-WebSocket-Protocol`, in order, from all such headers."""
    headers = request.headers.getall("Sec-WebSocket-Protocol", [])
    return [part.strip() for header in headers for part in header.split(",") if part.strip()]
