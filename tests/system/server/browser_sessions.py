"""Sessions as browsers have them: a cookie, and what the console's page sends beside it."""

from __future__ import annotations

from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any

from gateway_client import Answer, GatewayClient


@dataclass(frozen=True)
class BrowserSession:
    """A signed-in browser of one gateway."""

    gateway: GatewayClient
    cookie: str
    csrf: str

    @property
    def headers(self) -> dict[str, str]:
        """What its page sends with every request, those that change something included."""
        return {"Cookie": self.cookie, "Origin": self.gateway.url, "X-Audit-CSRF": self.csrf}

    async def request(self, method: str, path: str, **options: Any) -> Answer:
        headers = {**self.headers, **options.pop("headers", {})}
        return await self.gateway.request(method, path, key=None, headers=headers, **options)

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.request("GET", path, **options)


def cookie_of(answer: Answer) -> tuple[str, dict[str, str]]:
    """The cookie that an answer sets, as it is sent back, and its attributes."""
    ((name, morsel),) = SimpleCookie(answer.headers["Set-Cookie"]).items()
    attributes = {key: str(value) for key, value in morsel.items() if value}
    return f"{name}={morsel.value}", attributes


async def post_key(gateway: GatewayClient, key: str, **headers: str) -> Answer:
    """What signing in with a key is answered."""
    sent = {"Origin": gateway.url, **headers}
    return await gateway.post("/v1/session", key=None, json={"key": key}, headers=sent)


async def sign_in(gateway: GatewayClient, key: str, **headers: str) -> BrowserSession:
    """Sign in with a key, which must be taken."""
    answer = await post_key(gateway, key, **headers)
    assert answer.status == 201, answer.body
    return BrowserSession(gateway, cookie_of(answer)[0], answer.json()["csrf"])
