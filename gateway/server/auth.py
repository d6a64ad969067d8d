"""From the credentials of a request to the key and what it may do."""

from __future__ import annotations

import base64
import binascii

from aiohttp import web

from gateway.errors import Forbidden, GatewayError, InvalidRequest, Unauthorized
from gateway.keys.key import Key
from gateway.keys.policy import EXPIRED, REVOKED, SUSPENDED, Denied, View
from gateway.keys.ticket import PREFIX as TICKET
from gateway.keys.token import looks_like_token
from gateway.live.keyring import Keyring

# Credentials that a browser can send with a WebSocket; the rest is the key in base64url.
WEBSOCKET_BEARER = "base64url.bearer.authorization.audit."
_URL_NAMES = frozenset({"key", "token", "access_token", "api_key", "apikey", "authorization"})
_REASONS = {
    "key_revoked": "this key was revoked; ask for a new one",
    "key_expired": "this key has expired; ask for a new one",
    "key_suspended": "this key is suspended; ask who answers for it",
    "outside_hours": "the grants of this key do not count at this hour",
    "address_not_allowed": "the grants of this key do not count from this address",
}


class Authenticator:
    """Decides for each request. Every refusal carries a reason code."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def authorize(self, request: web.Request, action: str) -> tuple[Key, View]:
        """The key of the request and what it sees under `action`.

        Raises `Unauthorized` or `Forbidden`.
        """
        refuse_key_in_url(request)
        key = await self._keyring.authenticate(_token(request))
        if key is None:
            raise Unauthorized("no such key; check that it was copied whole")
        return key, self._decide(key, request, action)

    async def authorize_key(
        self, key_id: str, request: web.Request, action: str
    ) -> tuple[Key, View]:
        """The same for a key that a ticket names."""
        key = await self._keyring.get(key_id)
        if key is None:
            raise Unauthorized("the key of this ticket is gone")
        return key, self._decide(key, request, action)

    def _decide(self, key: Key, request: web.Request, action: str) -> View:
        decision = self._keyring.decide(key, action, request.remote)
        if isinstance(decision, Denied):
            raise _refusal(decision, action)
        return decision.view


def refuse_key_in_url(request: web.Request) -> None:
    """URLs end up in logs and histories; a key in one is refused, and should be revoked."""
    for name, value in request.query.items():
        if name.lower() in _URL_NAMES or looks_like_token(value):
            raise InvalidRequest(
                "a key never goes into a URL, where logs keep it: send it as "
                "`Authorization: Bearer <key>`, and revoke the one that was sent",
                code="key_in_url",
            )


def _refusal(decision: Denied, action: str) -> GatewayError:
    if decision in (REVOKED, EXPIRED, SUSPENDED):
        return Unauthorized(_REASONS[decision.reason], code=decision.reason)
    detail = _REASONS.get(decision.reason, f"no grant of this key allows the action `{action}`")
    return Forbidden(detail, code=decision.reason, action=action)


def _token(request: web.Request) -> str:
    header = request.headers.get("Authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
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
