"""The identity provider: its discovery document, its keys, and its tokens.

Every answer is bounded in bytes and time, no redirect is followed, and what is fetched is kept: a
provider that is away, or a flood of tokens under unknown keys, costs one request in a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from math import inf
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from gateway.clock import Clock
from gateway.delivery.connect.endpoint import parse_endpoint
from gateway.delivery.connect.transport import (
    HttpRequest,
    HttpTransport,
    NoAnswer,
    RemoteAnswer,
    basic_credentials,
)
from gateway.errors import InvalidRequest, Unauthorized, Unavailable
from gateway.people.pending import PendingSignIn
from gateway.people.tokens import (
    Claims,
    Expected,
    ProviderKey,
    UnknownKey,
    provider_keys,
    refused,
    verified,
)
from gateway.sanitize import clean
from gateway.settings.console import OidcSettings

_DISCOVERY = "/.well-known/openid-configuration"
_MOST_BYTES = 256 * 1024
# The discovery document and the keys are fetched anew after so many seconds; keys also when a token
# needs one that is not there, but no more often than that.
_KEPT_SECONDS = 900.0
_KEYS_SECONDS = 30.0
# After a failure nobody waits for the provider for so long.
_AWAY_SECONDS = 5.0
_FORM = "application/x-www-form-urlencoded"
# Answers that say nothing of the person: the gateway is set up wrongly, or the provider is ill.
_NOT_OF_THE_PERSON = frozenset(
    {"invalid_client", "unauthorized_client", "invalid_request", "unsupported_grant_type",
     "server_error", "temporarily_unavailable", "slow_down", ""}
)  # fmt: skip
_LOGGER = logging.getLogger(__name__)


class Metadata(msgspec.Struct, frozen=True):
    """What is used of a discovery document (OpenID Connect Discovery 1.0, section 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    scopes_supported: tuple[str, ...] | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Tokens(msgspec.Struct, frozen=True):
    """Answer of a token endpoint; what is "" was not given."""

    id_token: str = ""
    access_token: str = ""
    refresh_token: str = ""


class GrantRefused(Exception):
    """The provider refuses a code or a token of a person: they have no access there any more."""


_METADATA = msgspec.json.Decoder(Metadata)
_TOKENS = msgspec.json.Decoder(Tokens)


class Provider:
    """One identity provider, as one process knows it. `secret` is that of the gateway there."""

    def __init__(
        self, settings: OidcSettings, secret: str, transport: HttpTransport, clock: Clock
    ) -> None:
        self._settings = settings
        self._secret = secret
        self._transport = transport
        self._clock = clock
        self._fetching = asyncio.Lock()
        self._metadata: Metadata | None = None
        self._keys: tuple[ProviderKey, ...] = ()
        # When each was fetched last, and when that has failed (monotonic seconds).
        self._metadata_at = self._keys_at = self._failed_at = -inf

    async def metadata(self) -> Metadata:
        """The discovery document. Raises `Unavailable`."""
        async with self._fetching:
            if self._metadata is None or self._age(self._metadata_at) >= _KEPT_SECONDS:
                url = self._settings.issuer.rstrip("/") + _DISCOVERY
                self._metadata = self._read(await self._fetch(url))
                self._metadata_at = self._clock.monotonic()
            return self._metadata

    async def authorization_url(self, pending: PendingSignIn) -> str:
        """Where the browser goes to sign in (RFC 6749, section 4.1.1; RFC 7636)."""
        metadata, settings = await self.metadata(), self._settings
        listed = metadata.scopes_supported
        scopes = [one for one in settings.scopes if listed is None or one in {*listed, "openid"}]
        asked = {
            "response_type": "code", "client_id": settings.client_id,
            "redirect_uri": pending.redirect_uri, "scope": " ".join(scopes),
            "state": pending.state, "nonce": pending.nonce,
            "code_challenge": pending.challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        joined = "&" if "?" in metadata.authorization_endpoint else "?"
        return f"{metadata.authorization_endpoint}{joined}{urlencode(asked)}"

    async def check_issuer(self, sent: str | None) -> None:
        """Raise if the answer to a sign-in is of another provider (RFC 9207)."""
        metadata = await self.metadata()
        if sent is None and not metadata.authorization_response_iss_parameter_supported:
            return
        if sent != metadata.issuer:
            raise refused("another provider has answered (iss)")

    async def exchange(self, pending: PendingSignIn, code: str) -> Tokens:
        """Tokens for the code of a sign-in. Raises `GrantRefused` or `Unavailable`."""
        return await self._ask_tokens(
            {
                "grant_type": "authorization_code", "code": code,
                "redirect_uri": pending.redirect_uri, "code_verifier": pending.verifier,
            }
        )  # fmt: skip

    async def refresh(self, token: str) -> Tokens:
        """New tokens of a person who has signed in. Raises as `exchange` does."""
        return await self._ask_tokens({"grant_type": "refresh_token", "refresh_token": token})

    async def claims(self, tokens: Tokens, nonce: str | None, subject: str = "") -> Claims | None:
        """Claims of the ID token, and what the provider tells beside them; None if it tells
        nothing. With a `subject`, they have to be about that person. Raises `Unauthorized`."""
        found: Claims = {}
        if tokens.id_token or nonce is not None:
            found = await self._verified(tokens.id_token, nonce)
        metadata = await self.metadata()
        if tokens.access_token and metadata.userinfo_endpoint:
            told = await self._user_info(metadata.userinfo_endpoint, tokens.access_token)
            # It is of that person only if it says so (section 5.3.2).
            if told.get("sub") != (found.get("sub") or subject):
                raise refused("what it tells of the person is about somebody else (sub)")
            found = {**told, **found}
        if subject and found and found["sub"] != subject:
            raise refused("it is about somebody else (sub)")
        return found or None

    async def _verified(self, token: str, nonce: str | None) -> Claims:
        expected = Expected(self._settings.issuer, self._settings.client_id, nonce)
        await self._refresh_keys(_KEPT_SECONDS)
        for least in (_KEYS_SECONDS, inf):
            try:
                return verified(token, self._keys, expected, self._clock.now())
            except UnknownKey:
                await self._refresh_keys(least)
        raise refused("none of its keys has signed it")

    async def _refresh_keys(self, age: float) -> None:
        """Fetch the keys, if they are so many seconds old."""
        metadata = await self.metadata()
        async with self._fetching:
            if self._age(self._keys_at) >= age:
                # Also if it fails: the next attempt waits as long.
                self._keys_at = self._clock.monotonic()
                self._keys = provider_keys(await self._fetch(metadata.jwks_uri))

    async def _user_info(self, url: str, access_token: str) -> Claims:
        answer = await self._request(
            HttpRequest(
                url, b"", {"Authorization": f"Bearer {access_token}", "Accept": "application/json"},
                compress=False, method="GET",
            )
        )  # fmt: skip
        if answer.status in (401, 403):
            raise refused("it does not tell who the person is")
        told = _json(answer) if answer.status == 200 else None
        if not isinstance(told, dict):
            raise _away(f"it tells nothing of the person (status {answer.status})")
        return told

    async def _ask_tokens(self, form: Mapping[str, str]) -> Tokens:
        metadata, settings = await self.metadata(), self._settings
        fields, headers = dict(form), {"Content-Type": _FORM, "Accept": "application/json"}
        methods = metadata.token_endpoint_auth_methods_supported
        if self._secret and "client_secret_basic" in methods:
            # Encoded as forms are, first (RFC 6749, section 2.3.1).
            user, password = quote(settings.client_id, safe=""), quote(self._secret, safe="")
            headers["Authorization"] = basic_credentials(user, password)
        else:
            fields["client_id"] = settings.client_id
            if self._secret:
                fields["client_secret"] = self._secret
        answer = await self._request(
            HttpRequest(
                metadata.token_endpoint, urlencode(fields).encode(), headers,
                (self._secret,) if self._secret else (), compress=False,
            )
        )  # fmt: skip
        if answer.status == 200:
            try:
                return _TOKENS.decode(answer.body)
            except msgspec.DecodeError:
                raise _away("its tokens cannot be read") from None
        said = _json(answer)
        error = said.get("error") if isinstance(said, dict) else None
        error = error if isinstance(error, str) else ""
        if 400 <= answer.status < 500 and error not in _NOT_OF_THE_PERSON:
            raise GrantRefused(clean(error, 64))
        _LOGGER.warning(
            "the identity provider gives no tokens: status %s %s", answer.status, clean(error, 64)
        )
        raise _away(f"it gives no tokens (status {answer.status} {clean(error, 64)})")

    async def _fetch(self, url: str) -> bytes:
        """A document of the provider. Raises `Unavailable`, and at once after a failure."""
        if self._age(self._failed_at) < _AWAY_SECONDS:
            raise _away("it did not answer a moment ago")
        try:
            answer = await self._request(
                HttpRequest(url, b"", {"Accept": "application/json"}, compress=False, method="GET")
            )
            if answer.status != 200:
                raise _away(f"{url} has status {answer.status}")
            if len(answer.body) > _MOST_BYTES or not answer.whole:
                raise _away(f"{url} is longer than {_MOST_BYTES // 1024} KiB")
        except Unavailable:
            self._failed_at = self._clock.monotonic()
            raise
        return answer.body

    async def _request(self, request: HttpRequest) -> RemoteAnswer:
        try:
            return await self._transport.request(request)
        except NoAnswer as failure:
            raise _away(failure.message) from None

    def _read(self, document: bytes) -> Metadata:
        try:
            return self._checked(document)
        except Unavailable:
            self._failed_at = self._clock.monotonic()
            raise

    def _checked(self, document: bytes) -> Metadata:
        try:
            metadata = _METADATA.decode(document)
        except msgspec.DecodeError as error:
            raise _away(f"its discovery document cannot be read: {error}") from None
        if metadata.issuer != self._settings.issuer:
            raise _away("its discovery document names another issuer")
        urls = (metadata.authorization_endpoint, metadata.token_endpoint, metadata.jwks_uri)
        schemes = ("https", "http") if metadata.issuer.startswith("http:") else ("https",)
        for url in (*urls, *filter(None, [metadata.userinfo_endpoint])):
            try:
                parse_endpoint(url, schemes, "discovery document")
            except InvalidRequest as error:
                raise _away(error.detail) from None
        return metadata

    def _age(self, at: float) -> float:
        return self._clock.monotonic() - at


def grant_refused(refusal: GrantRefused) -> Unauthorized:
    """Error for a code that the provider does not take."""
    return refused(f"it does not take the code ({refusal})")


def _away(why: str) -> Unavailable:
    return Unavailable(
        f"the identity provider cannot be used now: {clean(why, 256)}; try again, or sign in with "
        "a key",
        code="provider_away",
        retry_after=5,
    )


def _json(answer: RemoteAnswer) -> Any:
    try:
        return msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        return None
