"""Sign-in by an identity provider: the code flow (OpenID Connect Core 1.0, section 3.1) with PKCE,
from the link on the page to a person with roles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from gateway.access.credentials.pepper import Peppers
from gateway.access.credentials.sealing import seal_bytes, unseal_bytes
from gateway.access.credentials.session import Confirmation
from gateway.access.grants.role import BUILTIN
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import KeysAndRoles
from gateway.access.people import known_roles, take_person
from gateway.clock import Clock
from gateway.errors import Unauthorized
from gateway.people.identity import Identity, identity_of, no_group, roles_of
from gateway.people.pending import KIND, PendingSignIn, SignInUse, new_pending, seal, unseal
from gateway.people.provider import GrantRefused, Provider, Tokens, grant_refused
from gateway.people.tokens import refused
from gateway.sanitize import clean
from gateway.settings.console import OidcSettings

_REFRESH, _PLACE = b"audit-gateway confirmation", b"session"
_LONGEST_CODE = 4096


class Arrival(NamedTuple):
    """A person whom the provider has named, the token by which it confirms them later ("": none),
    and the view of the console that they wanted."""

    identity: Identity
    refresh: str
    to: str


class SignIn:
    """Sign-ins by one identity provider.

    Atomicity: a sign-in comes to an end once, whichever process sees it. What has been begun is in
    the browser alone.
    """

    def __init__(
        self,
        settings: OidcSettings,
        provider: Provider,
        store: KeysAndRoles,
        peppers: Callable[[], Peppers],
        clock: Clock,
    ) -> None:
        self.provider = provider
        self._settings = settings
        self._store = store
        self._peppers = peppers
        self._clock = clock

    async def begin(self, redirect_uri: str, to: str) -> tuple[str, str]:
        """Where the browser goes, and the cookie that it comes back with."""
        pending = new_pending(redirect_uri, to, self._clock.now())
        return await self.provider.authorization_url(pending), seal(pending, self._peppers())

    async def finish(self, cookie: str, answer: Mapping[str, str]) -> Arrival:
        """The person of the answer that the browser has brought.

        Raises `Unauthorized` for an answer that is none to a sign-in of this browser.
        """
        pending = unseal(cookie, self._peppers(), self._clock.now())
        if pending is None or answer.get("state") != pending.state:
            raise Unauthorized(
                "this browser has begun no such sign-in, or too long ago: begin again",
                code="sign_in_unknown",
            )
        await self.provider.check_issuer(answer.get("iss"))
        await self._use(pending)
        if "error" in answer:
            raise refused(f"it says {clean(answer['error'], 64)}")
        code = answer.get("code", "")
        if not 0 < len(code) <= _LONGEST_CODE:
            raise refused("there is no code")
        try:
            tokens = await self.provider.exchange(pending, code)
        except GrantRefused as refusal:
            raise grant_refused(refusal) from None
        return Arrival(await self._identity(tokens, pending), tokens.refresh_token, pending.to)

    async def _use(self, pending: PendingSignIn) -> None:
        use = SignInUse(pending)
        await self._store.update_notes(KIND, {use.name: use})
        if not use.first:
            raise Unauthorized("this sign-in is over: begin again", code="sign_in_used")

    async def _identity(self, tokens: Tokens, pending: PendingSignIn) -> Identity:
        claims = await self.provider.claims(tokens, pending.nonce)
        assert claims is not None
        settings = self._settings
        return identity_of(claims, settings.issuer, settings.groups_claim, self._clock.now())

    async def admit(self, identity: Identity) -> Key:
        """The person as a key with the roles of their groups. Raises `Forbidden`."""
        roles = await self._roles(identity)
        if not roles:
            raise no_group(identity)
        return await take_person(self._store, identity.person, roles)

    async def confirmed(self, tokens: Tokens, subject: str) -> tuple[str, ...] | None:
        """Roles of a person whom the provider has confirmed; None if it has said nothing of groups.

        Raises `Forbidden` for one who is in no group any more, `Unauthorized` if it is about
        somebody else.
        """
        claims = await self.provider.claims(tokens, None, subject)
        if claims is None:
            return None
        settings, now = self._settings, self._clock.now()
        identity = identity_of(claims, settings.issuer, settings.groups_claim, now)
        if identity.groups is None:
            return None
        roles = await self._roles(identity)
        if not roles:
            raise no_group(identity)
        return roles

    async def _roles(self, identity: Identity) -> tuple[str, ...]:
        wanted = roles_of(identity.groups or (), self._settings.roles)
        return known_roles(wanted, {*BUILTIN, *await self._store.roles()})

    def confirmation(self, refresh: str) -> Confirmation:
        """Confirmation of a session by the provider, now."""
        secret = self._peppers().current.secret
        sealed = seal_bytes(refresh.encode(), secret, _REFRESH, _PLACE) if refresh else b""
        return Confirmation(self._clock.now(), sealed)

    def refresh_token(self, confirmation: Confirmation) -> str | None:
        """The token by which a session is confirmed; None if no pepper opens it any more."""
        for pepper in self._peppers().all:
            opened = unseal_bytes(confirmation.refresh, pepper.secret, _REFRESH, _PLACE)
            if opened is not None:
                return opened.decode()
        return None
