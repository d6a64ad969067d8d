"""An identity provider of our own that follows the specifications, unless it is told to lie."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import web
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

CLIENT, SECRET = "audit-gateway", "secret of the gateway"
Claims = dict[str, Any]
_ANY_ALGORITHM = jws.JWSRegistry(algorithms=["RS256", "ES256"])


def _unchanged(claims: Claims) -> Claims:
    return claims


@dataclass
class OidcProvider:
    """Provider whose keys, claims and answers tests may change."""

    now: Callable[[], float]
    url: str = ""
    person: Claims = field(
        default_factory=lambda: {"sub": "u-1", "email": "ann@example.org", "groups": ["admins"]}
    )
    # What of the claims is false.
    lie: Callable[[Claims], Claims] = _unchanged
    # How tokens are signed; and what is published.
    algorithm: str = "RS256"
    key: Any = field(default_factory=lambda: _rsa_key("one", 0))
    # Of a shared secret, which no provider should sign with.
    secret: bytes = b""
    published: list[Any] = field(default_factory=list)
    # What is answered in place of a document, by path.
    instead: dict[str, Callable[[], web.Response]] = field(default_factory=dict)
    # Set where answers wait.
    silence: asyncio.Event | None = None
    refuses: str = ""
    gives_refresh: bool = True
    asked: list[str] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)
    _refresh: str = ""

    def claims(self, nonce: str | None = None) -> Claims:
        now = int(self.now())
        told = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300, **self.person}
        return told if nonce is None else {**told, "nonce": nonce}

    def token(self, nonce: str | None = None) -> str:
        """ID token, as it is signed now."""
        kid = getattr(self.key, "kid", None)
        header = {"alg": self.algorithm, **({"kid": kid} if kid else {})}
        payload = json.dumps(self.lie(self.claims(nonce)))
        if self.algorithm in ("none", "HS256"):
            return _by_hand(header, payload, self.secret)
        return jws.serialize_compact(header, payload, self.key, registry=_ANY_ALGORITHM)

    def authorize(self, url: str, **changed: str) -> str:
        """Where a person who signs in at `url` is sent back to, with a code."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        code = f"code-{len(self._codes)}"
        self._codes[code] = asked
        answer = {"code": code, "state": asked["state"], "iss": self.url, **changed}
        return f"{asked['redirect_uri']}?{urlencode(answer)}"

    def count(self, path: str) -> int:
        """How often that was asked for."""
        return self.asked.count(path)

    # What it answers

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.silence is not None:
            await self.silence.wait()
        if request.path in self.instead:
            return self.instead[request.path]()
        if request.path == "/.well-known/openid-configuration":
            return web.json_response(self._discovery())
        if request.path == "/jwks":
            published = self.published or [self.key]
            keys = [one.as_dict(private=False) for one in published]
            return web.json_response({"keys": keys})
        assert request.path == "/token"
        return self._tokens({name: str(one) for name, one in (await request.post()).items()})

    def _discovery(self) -> Claims:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/auth",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "scopes_supported": ["openid", "email", "offline_access"],
            "authorization_response_iss_parameter_supported": True,
        }

    def _tokens(self, form: dict[str, str]) -> web.Response:
        if self.refuses:
            return web.json_response({"error": self.refuses}, status=400)
        nonce = None
        if form["grant_type"] == "authorization_code":
            asked = self._codes.pop(form["code"], None)
            if asked is None or form["redirect_uri"] != asked["redirect_uri"]:
                return web.json_response({"error": "invalid_grant"}, status=400)
            nonce = asked["nonce"]
        elif form["refresh_token"] != self._refresh:
            return web.json_response({"error": "invalid_grant"}, status=400)
        answer = {"token_type": "Bearer", "access_token": "a", "id_token": self.token(nonce)}
        if self.gives_refresh:
            # Another one each time: the one before works no longer.
            self._refresh = f"refresh-{len(self.asked)}"
            answer["refresh_token"] = self._refresh
        return web.json_response(answer)


@asynccontextmanager
async def provider_at(now: Callable[[], float]) -> AsyncIterator[OidcProvider]:
    """A provider on a port of its own."""
    provider = OidcProvider(now)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", provider._handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    provider.url = f"http://{host}:{port}"
    try:
        yield provider
    finally:
        if provider.silence is not None:
            provider.silence.set()
        await runner.cleanup()


@cache
def _rsa_key(kid: str, number: int) -> RSAKey:
    """A key of that name; others of the name have other numbers. Making one takes long."""
    return RSAKey.generate_key(2048, {"kid": kid})


def other_key(kid: str = "one") -> RSAKey:
    """A key that the provider does not publish."""
    return _rsa_key(kid, 1)


def curve_key() -> ECKey:
    """A key of an elliptic curve."""
    return ECKey.generate_key("P-256", {"kid": "curve"})


def _by_hand(header: Claims, payload: str, secret: bytes) -> str:
    """Token that libraries refuse to make: unsigned, or signed with a shared secret."""
    signed = b".".join(_text(one.encode()) for one in (json.dumps(header), payload))
    signature = hmac.digest(secret, signed, hashlib.sha256) if secret else b""
    return b".".join((signed, _text(signature))).decode()


def _text(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
