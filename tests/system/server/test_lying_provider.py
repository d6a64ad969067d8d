"""Sign-in by a provider that lies, is ill or is not the provider: nobody comes in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from gateways import Gateway, ShiftedClock, Start
from joserfc.jwk import RSAKey
from oidc_browser import BACK, BEGIN, Arrived, OidcBrowser, oidc

from gateway.delivery.connect.addresses import AddressRule
from gateway.delivery.connect.http_client import ClientOptions, HttpClient
from gateway.delivery.connect.lookup import ConnectRule, Lookups
from gateway.errors import Unauthorized, Unavailable
from gateway.people.provider import Provider, Tokens
from gateway.settings.console import OidcSettings
from tests.support.oidc_provider import (
    CLIENT,
    Claims,
    OidcProvider,
    curve_key,
    other_key,
    provider_at,
)


@pytest.fixture
async def provider(shifted: ShiftedClock) -> AsyncIterator[OidcProvider]:
    async with provider_at(shifted.now) as provider:
        yield provider


@pytest.fixture
async def gateway(start: Start, shifted: ShiftedClock, provider: OidcProvider) -> Gateway:
    return await start(shifted, console=oidc(provider))


def with_(**members: Any) -> Callable[[Claims], Claims]:
    return lambda claims: {**claims, **members}


def without(name: str) -> Callable[[Claims], Claims]:
    return lambda claims: {key: value for key, value in claims.items() if key != name}


def moved(name: str, seconds: int) -> Callable[[Claims], Claims]:
    return lambda claims: {**claims, name: claims["iat"] + seconds}


# What is false in claims, and the claim that is named then.
LIES = {
    "another issuer": (with_(iss="https://other.example"), "(iss)"),
    "no issuer": (without("iss"), "(iss)"),
    "another audience": (with_(aud="other"), "(aud)"),
    "no audience": (without("aud"), "(aud)"),
    "an audience that is a part": (with_(aud=f"{CLIENT}-2"), "(aud)"),
    "several audiences and no azp": (with_(aud=[CLIENT, "other"]), "(azp)"),
    "several audiences and another azp": (with_(aud=[CLIENT, "other"], azp="other"), "(azp)"),
    "another azp": (with_(azp="other"), "(azp)"),
    "another nonce": (with_(nonce="n"), "(nonce)"),
    "no nonce": (without("nonce"), "(nonce)"),
    "a nonce that is no text": (with_(nonce=[1]), "(nonce)"),
    "expired": (moved("exp", -61), "(exp)"),
    "no expiry": (without("exp"), "exp"),
    "an expiry that is text": (with_(exp="9999999999"), "exp"),
    "made in the future": (moved("iat", 120), "(iat)"),
    "no time": (without("iat"), "iat"),
    "not valid yet": (lambda claims: {**claims, "nbf": claims["iat"] + 120}, "(nbf)"),
    "nobody": (without("sub"), "(sub)"),
    "an empty name": (with_(sub=""), "(sub)"),
    "a name that is no text": (with_(sub=7), "(sub)"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_token_with_a_false_claim_lets_nobody_in(
    gateway: Gateway, provider: OidcProvider, lie: str
) -> None:
    provider.lie, named = LIES[lie]
    browser = OidcBrowser(gateway)
    refused(await browser.sign_in(provider), named)
    assert "audit-session" not in browser.cookies


@pytest.mark.parametrize(
    "truth",
    [
        moved("exp", -50),
        moved("iat", 50),
        with_(aud=[CLIENT]),
        with_(aud=[CLIENT, "x"], azp=CLIENT),
    ],
)
async def test_a_minute_of_skew_and_lists_of_audiences_are_taken(
    gateway: Gateway, provider: OidcProvider, truth: Callable[[Claims], Claims]
) -> None:
    provider.lie = truth
    assert (await OidcBrowser(gateway).sign_in(provider)).status == 303


def unsigned(provider: OidcProvider) -> None:
    provider.algorithm = "none"


def shared_secret(provider: OidcProvider) -> None:
    """The public key, which everybody has, taken for a shared secret."""
    provider.algorithm, provider.secret = "HS256", provider.key.as_pem(private=False)


def swapped(provider: OidcProvider) -> None:
    provider.published, provider.key = [provider.key], other_key()


def unpublished(provider: OidcProvider) -> None:
    provider.published, provider.key = [provider.key], other_key("two")


def short_key(provider: OidcProvider) -> None:
    made = rsa.generate_private_key(65537, 1024)
    provider.key = RSAKey(made, made, {"kid": "one"})


def of_encryption(provider: OidcProvider) -> None:
    members = provider.key.as_dict(private=False)
    keys = {"keys": [{**members, "use": "enc"}]}
    provider.instead["/jwks"] = lambda: web.json_response(keys)


def of_another_algorithm(provider: OidcProvider) -> None:
    members = provider.key.as_dict(private=False)
    keys = {"keys": [{**members, "alg": "RS512"}]}
    provider.instead["/jwks"] = lambda: web.json_response(keys)


def secret_published(provider: OidcProvider) -> None:
    """A shared secret among the keys, by which anybody could sign."""
    keys = {"keys": [{"kty": "oct", "kid": "one", "k": "c2VjcmV0"}]}
    provider.instead["/jwks"] = lambda: web.json_response(keys)
    provider.algorithm, provider.secret = "HS256", b"secret"


def no_keys(provider: OidcProvider) -> None:
    provider.instead["/jwks"] = lambda: web.json_response({"keys": [1, {}, {"kty": "RSA"}]})


SIGNATURES = (
    unsigned, shared_secret, swapped, unpublished, short_key, of_encryption, of_another_algorithm,
    secret_published, no_keys,
)  # fmt: skip


@pytest.mark.parametrize("lie", SIGNATURES)
async def test_a_token_that_no_key_of_the_provider_has_signed_lets_nobody_in(
    gateway: Gateway, provider: OidcProvider, lie: Callable[[OidcProvider], None]
) -> None:
    lie(provider)
    refused(await OidcBrowser(gateway).sign_in(provider))


TOKENS = {
    "no token": {"access_token": "a"},
    "a token that is none": {"id_token": "x"},
    "an unreadable header": {"id_token": "e30.e30.e30"},
    "a header that is no object": {"id_token": "W10.e30.e30"},
    "five parts": {"id_token": "a.b.c.d.e"},
    "a token of megabytes": {"id_token": "a" * 300_000},
}


@pytest.mark.parametrize("name", TOKENS)
async def test_what_is_no_token_lets_nobody_in(
    gateway: Gateway, provider: OidcProvider, name: str
) -> None:
    provider.instead["/token"] = lambda: web.json_response(TOKENS[name])
    refused(await OidcBrowser(gateway).sign_in(provider))


def refused(arrived: Arrived, named: str = "") -> None:
    """The gateway refuses what the provider has sent."""
    assert (arrived.status, arrived.code) == (401, "oidc_refused"), arrived.text
    assert named in arrived.detail


# The way of the browser


@pytest.mark.parametrize("iss", ["https://other.example", None])
async def test_an_answer_of_another_provider_is_refused(
    gateway: Gateway, provider: OidcProvider, iss: str | None
) -> None:
    browser = OidcBrowser(gateway)
    back = provider.authorize(await browser.begin(), iss=iss or "")
    refused(await browser.get(back if iss else back.replace("&iss=", "&x=")), "(iss)")
    assert provider.count("/token") == 0, "the code is given to nobody"


async def test_a_sign_in_comes_to_an_end_once(gateway: Gateway, provider: OidcProvider) -> None:
    browser = OidcBrowser(gateway)
    url = await browser.begin()
    kept = dict(browser.cookies)
    assert (await browser.get(provider.authorize(url))).status == 303
    browser.cookies = kept
    again = await browser.get(provider.authorize(url))
    assert (again.status, again.code) == (401, "sign_in_used")


async def test_a_code_that_was_used_lets_nobody_in(
    gateway: Gateway, provider: OidcProvider
) -> None:
    first, second = OidcBrowser(gateway), OidcBrowser(gateway)
    assert (await first.get(provider.authorize(await first.begin()))).status == 303
    url = await second.begin()
    state = parse_qs(urlsplit(url).query)["state"][0]
    refused(
        await second.get(f"{BACK}?code=code-0&state={state}&iss={provider.url}"),
        "invalid_grant",
    )


async def test_an_answer_belongs_to_the_browser_that_has_begun(
    gateway: Gateway, provider: OidcProvider
) -> None:
    attacker, victim = OidcBrowser(gateway), OidcBrowser(gateway)
    back = provider.authorize(await attacker.begin())
    unknown = await victim.get(back)
    assert (unknown.status, unknown.code) == (401, "sign_in_unknown")
    await victim.begin()
    assert (await victim.get(back)).code == "sign_in_unknown"
    assert provider.count("/token") == 0


async def test_a_sign_in_is_to_be_finished_within_ten_minutes(
    gateway: Gateway, provider: OidcProvider, shifted: ShiftedClock
) -> None:
    browser = OidcBrowser(gateway)
    back = provider.authorize(await browser.begin())
    shifted.shift += 601
    assert (await browser.get(back)).code == "sign_in_unknown"


async def test_a_session_that_the_browser_had_ends(
    gateway: Gateway, provider: OidcProvider
) -> None:
    browser = OidcBrowser(gateway)
    await browser.sign_in(provider)
    before = await browser.session()
    await browser.sign_in(provider)
    (await before.get("/v1/me")).problem(401, "session_ended")
    assert (await (await browser.session()).get("/v1/me")).status == 200


async def test_the_cookie_of_a_begun_sign_in_is_kept_from_scripts_and_says_nothing(
    gateway: Gateway, provider: OidcProvider
) -> None:
    browser = OidcBrowser(gateway)
    begun = await browser.get(BEGIN)
    set_cookie = begun.headers["Set-Cookie"]
    assert "HttpOnly; SameSite=Lax" in set_cookie
    asked = parse_qs(urlsplit(begun.headers["Location"]).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["state"][0] not in set_cookie
    assert asked["redirect_uri"] == [gateway.url + BACK]


async def test_what_the_provider_says_instead_of_a_code_is_named(
    gateway: Gateway, provider: OidcProvider
) -> None:
    browser = OidcBrowser(gateway)
    arrived = await browser.sign_in(provider, error="access_denied", error_description="<script>")
    refused(arrived, "access_denied")
    assert "<script>" not in arrived.text


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "keys%0d%0aX: y", "%00"])
async def test_nobody_is_led_elsewhere_by_where_to_come_back_to(
    gateway: Gateway, provider: OidcProvider, to: str
) -> None:
    browser = OidcBrowser(gateway)
    begun = await browser.get(f"{BEGIN}?to={to}")
    if begun.status == 303:
        arrived = await browser.get(provider.authorize(begun.headers["Location"]))
        assert arrived.headers["Location"].startswith("/#/")
    else:
        assert begun.status == 400


async def test_a_name_that_is_not_the_gateways_begins_nothing(
    gateway: Gateway, provider: OidcProvider
) -> None:
    headers = {"Host": "evil.example"}
    answer = await gateway.get(BEGIN, key=None, headers=headers)
    assert answer.status == 403
    assert b"host_not_named" in answer.body


# A provider that is ill


def moved_elsewhere() -> web.Response:
    return web.Response(status=302, headers={"Location": "/elsewhere"})


ILL = {
    "a redirect": moved_elsewhere,
    "a document of megabytes": lambda: web.Response(text=f'{{"issuer":"{"a" * 300_000}"}}'),
    "no document": lambda: web.Response(text="<html>", content_type="text/html"),
    "another issuer": lambda: web.json_response(
        {"issuer": "https://other.example", "authorization_endpoint": "https://other.example/a",
         "token_endpoint": "https://other.example/t", "jwks_uri": "https://other.example/k"}
    ),
    "an error": lambda: web.Response(status=500),
}  # fmt: skip


@pytest.mark.parametrize("how", ILL)
async def test_a_discovery_document_that_cannot_be_used_is_said(
    gateway: Gateway, provider: OidcProvider, how: str
) -> None:
    provider.instead["/.well-known/openid-configuration"] = ILL[how]
    arrived = await OidcBrowser(gateway).get(BEGIN)
    assert (arrived.status, arrived.code) == (503, "provider_away")
    assert "/elsewhere" not in provider.asked
    again = await OidcBrowser(gateway).get(BEGIN)
    assert "a moment ago" in again.detail, "nobody waits for it again at once"
    assert len(provider.asked) == 1


@pytest.mark.parametrize("endpoint", ["authorization_endpoint", "token_endpoint", "jwks_uri"])
async def test_endpoints_that_others_can_read_or_that_are_no_pages_are_refused(
    gateway: Gateway, provider: OidcProvider, endpoint: str
) -> None:
    document = {**provider._discovery(), endpoint: "javascript:alert(1)"}
    provider.instead["/.well-known/openid-configuration"] = lambda: web.json_response(document)
    assert (await OidcBrowser(gateway).get(BEGIN)).code == "provider_away"


async def test_tokens_under_unknown_keys_fetch_the_keys_once_in_a_while(
    provider: OidcProvider, shifted: ShiftedClock
) -> None:
    clock = Monotonic()
    async with client_of(provider, clock) as asked:
        provider.key, provider.published = other_key("unknown"), [curve_key()]
        for _ in range(5):
            await no_key(asked, provider)
        assert provider.count("/jwks") == 1
        clock.passed += 31
        for _ in range(5):
            await no_key(asked, provider)
        assert provider.count("/jwks") == 2
        clock.passed += 31
        provider.published = [provider.key]
        assert (await claims(asked, provider))["sub"] == "u-1", "a new key is found"


async def test_a_provider_that_never_answers_is_given_up(
    provider: OidcProvider, shifted: ShiftedClock
) -> None:
    provider.silence = asyncio.Event()
    async with client_of(provider, Monotonic(), seconds=0.05) as asked:
        with pytest.raises(Unavailable) as refusal:
            await asked.metadata()
    assert refusal.value.code == "provider_away"


class Monotonic(ShiftedClock):
    """A clock of which only the test lets seconds pass, where rates are counted."""

    passed = 0.0

    def monotonic(self) -> float:
        return self.passed


@asynccontextmanager
async def client_of(
    provider: OidcProvider, clock: Monotonic, seconds: float = 30.0
) -> AsyncIterator[Provider]:
    """A provider, as a gateway knows it."""
    lookups = Lookups()
    options = ClientOptions(ConnectRule(AddressRule(configured=True)), request_timeout=seconds)
    client = HttpClient(options, lookups, clock)
    settings = OidcSettings(issuer=provider.url, client_id=CLIENT)
    try:
        yield Provider(settings, "", client, clock)
    finally:
        await client.close()
        lookups.close()


async def claims(asked: Provider, provider: OidcProvider) -> Claims:
    found = await asked.claims(Tokens(id_token=provider.token("n")), "n")
    assert found is not None
    return found


async def no_key(asked: Provider, provider: OidcProvider) -> None:
    with pytest.raises(Unauthorized, match="none of its keys"):
        await claims(asked, provider)


async def test_who_fails_too_often_asks_the_provider_nothing_more(
    start: Start, shifted: ShiftedClock, provider: OidcProvider
) -> None:
    limits = {"address_failures_per_minute": 2}
    gateway = await start(shifted, console=oidc(provider), limits=limits)
    asked = 0

    async def refusing(*_: Any) -> Any:
        nonlocal asked
        asked += 1
        raise Unauthorized("no", code="oidc_refused")

    sign_in = gateway.context.sign_in
    assert sign_in is not None
    sign_in.provider.exchange = refusing  # type: ignore[method-assign]
    statuses = [(await OidcBrowser(gateway).sign_in(provider)).status for _ in range(5)]
    assert statuses == [401, 401, 429, 429, 429]
    assert asked == 2
