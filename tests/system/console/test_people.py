"""People sign in by a real identity provider, in a real browser."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.http.request.context import Context
from gateway.people.confirmations import Confirmations
from gateway.runtime.compose import running
from gateway.settings.console import ConsoleSettings, OidcSettings
from gateway.settings.declarations import Settings
from gateway.settings.server import ServerSettings
from tests.setup_clients import CLIENTS, node_program
from tests.support.machine_time import patience
from tests.support.services.ports import free_port
from tests.support.shifted_clock import ShiftedClock
from tests.system.clients.browser import Browser
from tests.system.console.console_page import ConsolePage

ROLES = {"admins": "key-admin, on-call, auditor", "auditors": "auditor"}
GROUPS = {"ann": ["admins"], "bob": ["sales", "<i>support</i>"]}
HOUR = 3600


class Provider(NamedTuple):
    """A running identity provider."""

    process: Process
    issuer: str

    async def know(self, groups: dict[str, list[str]]) -> None:
        """From now on there are these people, in these groups."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(groups).encode() + b"\n")
        # It warns now and then.
        while (line := await self.process.stdout.readline()) != b"taken\n":
            assert line, "the provider has ended"


class Place(NamedTuple):
    """A gateway whose people sign in by a provider."""

    context: Context
    url: str
    provider: Provider
    clock: ShiftedClock


@asynccontextmanager
async def provider_for(redirect_uri: str) -> AsyncIterator[Provider]:
    script = str(CLIENTS / "oidc_provider.mjs")
    process = await asyncio.create_subprocess_exec(
        str(node_program()), script, redirect_uri, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(patience()):
            issuer = (await process.stdout.readline()).decode().strip()
        provider = Provider(process, issuer)
        await provider.know(GROUPS)
        yield provider
    finally:
        process.kill()
        await process.wait()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    port, clock = free_port(), ShiftedClock()
    secret = tmp_path / "secret"
    secret.write_text("a secret: of the gateway\n")
    async with provider_for(f"http://127.0.0.1:{port}/v1/session/oidc/callback") as provider:
        oidc = OidcSettings(
            issuer=provider.issuer, client_id="audit-gateway", client_secret_file=str(secret),
            roles=ROLES,
        )  # fmt: skip
        settings = Settings(
            data=tmp_path / "data", server=ServerSettings(port=port),
            console=ConsoleSettings(oidc=oidc),
        )  # fmt: skip
        async with running(settings, clock) as started:
            yield Place(started.context, started.url, provider, clock)


async def sign_in(page: ConsolePage, place: Place, name: str) -> None:
    """Sign in at the provider, by its pages."""
    await page.click(f"Sign in with {place.provider.issuer.removeprefix('http://')}", "link")
    await page.until("Boolean(document.querySelector('input[name=login]'))", "the provider's page")
    await page.evaluate(
        f"document.querySelector('input[name=login]').value = {json.dumps(name)},"
        " document.querySelector('input[name=password]').value = 'x',"
        " document.querySelector('form').submit()"
    )
    await page.sees("Authorize")
    await page.evaluate("document.querySelector('form').submit()")


@asynccontextmanager
async def opened(browser: Browser, place: Place, at: str = "") -> AsyncIterator[ConsolePage]:
    async with (
        asyncio.timeout(patience(60)),
        browser.page(f"{place.url}/{at}", ConsolePage) as page,
    ):
        await page.look()
        yield page


async def test_a_person_comes_back_signed_in_to_the_page_that_they_wanted(
    browser: Browser, place: Place
) -> None:
    async with opened(browser, place, "#/roles") as page:
        await page.sees("Or with a provisioning key")
        await page.accessible("sign-in-by-provider")
        await sign_in(page, place, "ann")
        await page.sees("ann@example.org")
        assert await page.evaluate("location.hash") == "#/roles"
        await page.sees("key-admin")
        await page.go("#/keys")
        await page.sees("person, signed in now")
        await page.accessible("keys-of-a-person")
        # A page that is loaded anew is still signed in.
        await page.evaluate("location.reload()")
        await page.sees("ann@example.org")
        assert "audit-session" not in await page.evaluate("document.cookie")
        await page.click("Sign out")
        await page.sees("You are signed out.")


async def test_a_person_in_no_known_group_is_told_which_groups_came(
    browser: Browser, place: Place
) -> None:
    async with opened(browser, place) as page:
        await sign_in(page, place, "bob")
        await page.sees("You are not signed in")
        await page.sees("these groups came: sales, <i>support</i>")
        await page.accessible("no-group")
        await page.click("Sign in otherwise", "link")
        await page.sees("Provisioning key")


async def test_who_has_left_is_out_within_an_hour(browser: Browser, place: Place) -> None:
    async with opened(browser, place, "#/live") as page:
        await sign_in(page, place, "ann")
        await page.sees("ann@example.org")
        await pass_an_hour(page, place)
        await place.provider.know({"ann": ["auditors"]})
        await confirm(place.context)
        actions = "fetch('/v1/me').then((answer) => answer.json()).then(({actions}) => actions)"
        await page.until(f"{actions}.then((may) => !may.includes('keys.admin'))", "with less")
        await place.provider.know({})
        await pass_an_hour(page, place)
        await confirm(place.context)
        await page.sees("sign in again")


async def pass_an_hour(page: ConsolePage, place: Place) -> None:
    """An hour in which the person has done something now and then."""
    for _ in range(3):
        place.clock.shift += HOUR / 3
        status = await page.evaluate("fetch('/v1/me').then((answer) => answer.status)")
        assert status == 200


async def confirm(context: Context) -> None:
    """Have persons confirmed who are due, as a task of the gateway does."""
    assert context.sign_in is not None
    sessions = context.admission.sessions
    await Confirmations(
        context.sign_in, sessions, context.key_store, context.access_log, context.clock
    ).poll()
