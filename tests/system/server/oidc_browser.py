"""A browser that signs in by an identity provider."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import unescape
from http.cookies import SimpleCookie
from typing import Any

from browser_sessions import BrowserSession
from gateways import Gateway
from yarl import URL

from gateway.settings.console import OidcSettings
from tests.support.oidc_provider import CLIENT, OidcProvider

ROLES = {"admins": "key-admin, on-call", "auditors": "auditor"}
_ACCEPT = {"Accept": "text/html,*/*;q=0.8"}
BEGIN, BACK = "/v1/session/oidc", "/v1/session/oidc/callback"


def oidc(provider: OidcProvider, **members: Any) -> dict[str, Any]:
    """Settings of the console of a gateway."""
    given = {"issuer": provider.url, "client_id": CLIENT, "roles": ROLES, **members}
    return {"oidc": OidcSettings(**given)}


@dataclass
class Arrived:
    """What the gateway has answered."""

    status: int
    headers: Any
    text: str

    @property
    def code(self) -> str:
        """Code on the page of a refusal."""
        found = re.search(r"<code>(\w+)</code>", self.text)
        return found[1] if found else ""

    @property
    def detail(self) -> str:
        found = re.search(r'role="alert">(.*?)</p>', self.text)
        return unescape(found[1]) if found else ""


@dataclass
class OidcBrowser:
    """Browser with its cookies, as a person uses it."""

    gateway: Gateway
    cookies: dict[str, str] = field(default_factory=dict)

    async def get(self, url: str) -> Arrived:
        """Go somewhere on the gateway; redirects are not followed."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        address = url if url.startswith("http") else self.gateway.url + url
        async with self.gateway.session.get(
            URL(address, encoded=True), headers=_ACCEPT | ({"Cookie": cookies} if cookies else {}),
            allow_redirects=False,
        ) as response:  # fmt: skip
            for line in response.headers.getall("Set-Cookie", []):
                for name, morsel in SimpleCookie(line).items():
                    self.cookies[name] = morsel.value
                    if morsel["max-age"] == "0":
                        del self.cookies[name]
            return Arrived(response.status, response.headers, await response.text())

    async def begin(self, to: str = "") -> str:
        """Where the gateway sends the browser."""
        begun = await self.get(BEGIN + (f"?to={to}" if to else ""))
        assert begun.status == 303, begun.text
        return str(begun.headers["Location"])

    async def sign_in(self, provider: OidcProvider, to: str = "", **changed: str) -> Arrived:
        """Sign in; `changed` is what else the provider answers."""
        return await self.get(provider.authorize(await self.begin(to), **changed))

    async def session(self) -> BrowserSession:
        """The session, as the console's page has it."""
        cookie = f"audit-session={self.cookies['audit-session']}"
        headers = {"Cookie": cookie, "Origin": self.gateway.url}
        shown = await self.gateway.get("/v1/session", key=None, headers=headers)
        assert shown.status == 200, shown.body
        return BrowserSession(self.gateway, cookie, shown.json()["csrf"])
