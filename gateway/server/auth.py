"""From the credentials of a request to the key and what it may do."""

from __future__ import annotations

import base64
import binascii

from aiohttp import web

from gateway.clock import Clock
from gateway.errors import Forbidden, GatewayError, InvalidRequest, Unauthorized
from gateway.keys.key import Key
from gateway.keys.policy import EXPIRED, REVOKED, SUSPENDED, Denied, View
from gateway.keys.ticket import PREFIX as TICKET
from gateway.keys.token import key_id_of
from gateway.live.keyring import Keyring
from gateway.server.address import client_address
from gateway.server.throttle import Throttle
from gateway.server.uses import USE

# Credentials that a browser can send with a WebSocket; the rest is the key in base64url.
WEBSOCKET_BEARER = "base64url.bearer.authorization.audit."
_REASONS = {
    "key_revoked": "this key was revoked; ask for a new one",
    "key_expired": "this key has expired; ask for a new one",
    "key_suspended": "this key is suspended; ask who answers for it",
    "outside_hours": "the grants of this key do not count at this hour",
    "address_not_allowed": "the grants of this key do not count from this address",
}


class Authenticator:
    """Decides for each request. Every refusal carries a reason code."""

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self._keyring = keyring
        self._throttle = Throttle(clock)

    async def authorize(self, request: web.Request, action: str) -> tuple[Key, View]:
        """The key of the request and what it sees under `action`.

        Raises `Unauthorized` or `Forbidden`.
        """
        use = request[USE]
        again, use.attempted = bool(use.attempted), action
        token = _token(request)
        key = use.key = await self._keyring.authenticate(token)
        if key is None:
            use.claimed = key_id_of(token) or ""
            raise Unauthorized("no such key; check that it was copied whole")
        view = self._decide(key, request, action)
        if not again:
            self._throttle.check(key)
        return key, view

    async def authorize_key(
        self, key_id: str, request: web.Request, action: str
    ) -> tuple[Key, View]:
        """The same for a key that a ticket names."""
        use = request[USE]
        use.attempted = action
        key = use.key = await self._keyring.get(key_id)
        if key is None:
            raise Unauthorized("the key of this ticket is gone")
        view = self._decide(key, request, action)
        self._throttle.check(key)
        return key, view

    def _decide(self, key: Key, request: web.Request, action: str) -> View:
        decision = self._keyring.decide(key, action, client_address(request))
        if isinstance(decision, Denied):
            raise _refusal(decision, action)
        return decision.view


def _refusal(decision: Denied, action: str) -> GatewayError:
    if decision in (REVOKED, EXPIRED, SUSPENDED):
        return Unauthorized(_REASONS[decision.reason], code=decision.reason)
    detail = _REASONS.get(decision.reason, f"no grant of this key allows the action `{action}`")
    return Forbidden(detail, code=decision.reason, action=action)


def _token(request: web.Request) -> str:
    sent = request.headers.getall("Authorization", [])
    if len(sent) > 1:
        # Whoever stands in front may have looked at another one.
        raise InvalidRequest("send one Authorization header", code="ambiguous_key")
    if sent:
        scheme, _, token = sent[0].partition(" ")
        if scheme.lower() not in ("bearer", "token"):
            raise Unauthorized("send the key as `Authorization: Bearer <key>`", code="missing_key")
        return token.strip()
    for offered in offered_subprotocols(request):
        if offered.startswith(WEBSOCKET_BEARER):
            return _from_base64url(offered.removeprefix(WEBSOCKET_BEARER))
    raise Unauthorized("a key is needed: `Authorization: Bearer <key>`", code="missing_key")


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
