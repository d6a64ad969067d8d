"""Keys: the list of all keys, found by what they are for and what they want."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.access.grants.grant import parse_grant
from gateway.access.keys.issuance import new_key
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.adapters.sqlite.provisioning import key_rows
from tests.support.gateway_process import GatewayProcess
from tests.system.clients.browser import Browser
from tests.system.console.conftest import EVERYTHING, OpenConsole
from tests.system.console.console_page import ConsolePage

LOOKS = {"actions": ["keys.read"], "categories": ["**"]}
PULLS = {"actions": ["pull"], "categories": ["**"]}


def make(gateway: GatewayProcess, name: str, **members: Any) -> dict[str, Any]:
    wanted = {"name": name, "purpose": "test", "owner": "tests", "grants": [PULLS], **members}
    status, answer = gateway.ask("POST", "/v1/keys", gateway.first_key, wanted)
    assert status == 201, answer
    made: dict[str, Any] = answer
    return made


@pytest.fixture(scope="module")
def made(gateway: GatewayProcess) -> dict[str, dict[str, Any]]:
    """Keys by name."""
    auth = {"actions": ["stream"], "categories": ["auth.**"], "tenants": ["acme"]}
    keys = [
        make(gateway, "siem-acme", owner="soc", grants=[auth], purpose="alerts on sign-ins"),
        make(gateway, "ending-soon", expires_in="3d", owner="soc"),
        make(gateway, "by-role", grants=[], roles=["auditor"]),
        make(gateway, "gone"),
    ]
    gateway.ask("POST", f"/v1/keys/{keys[-1]['id']}/revoke", gateway.first_key, {"reason": "test"})
    gateway.ask("GET", "/v1/events", keys[1]["key"])
    return {one["name"]: one for one in keys}


async def test_the_list_tells_of_each_key_what_it_sees_and_when_it_was_used(
    gateway: GatewayProcess, console: OpenConsole, made: dict[str, Any]
) -> None:
    async with console(gateway.make_key(EVERYTHING), "#/keys") as page:
        await page.sees("siem-acme")
        await page.sees("May stream events of category auth.** of the tenant acme.")
        await page.sees("expires in 2 d")
        await page.sees("from 127.0.0.1")
        await page.sees("New key")
        await page.sees_no("gone")
        for width, dark in ((1280, False), (1280, True), (360, True)):
            await page.look(width=width, dark=dark)
            await page.shoot(f"keys-{width}{'-dark' if dark else ''}")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360


async def test_keys_are_found_by_words_owner_role_state_and_marks(
    gateway: GatewayProcess, console: OpenConsole, made: dict[str, Any]
) -> None:
    async with console(gateway.make_key(EVERYTHING), "#/keys") as page:
        await page.sees("siem-acme")
        await page.press("/")
        assert await page.evaluate("document.activeElement.dataset.search") == "1"
        await page.fill("Search", "alerts SIGN-INS")
        await page.sees_no("ending-soon")
        await page.sees("siem-acme")
        await page.fill("Search", "no such words")
        await page.sees("No keys with these conditions.")
        await page.click("Drop the search")
        await page.click("expiring 1")
        await page.sees_no("siem-acme")
        await page.sees("ending-soon")
        await page.click("expiring 1")
        await page.fill("Role", "auditor")
        await page.sees_no("siem-acme")
        await page.sees("by-role")
        await page.go("#/keys?state=revoked")
        await page.sees("gone")
        await page.sees_no("siem-acme")
        await page.go("#/keys?flag=never_used&owner=soc")
        await page.sees("siem-acme")
        await page.sees_no("ending-soon")


async def test_whoever_only_looks_at_keys_is_offered_no_change(
    gateway: GatewayProcess, console: OpenConsole, made: dict[str, Any]
) -> None:
    async with console(gateway.make_key(LOOKS), "#/keys") as page:
        await page.sees("siem-acme")
        await page.sees_no("New key")


async def test_a_list_that_does_not_come_says_why_and_is_asked_for_again(
    gateway: GatewayProcess, console: OpenConsole, made: dict[str, Any]
) -> None:
    async with console(gateway.make_key(EVERYTHING), refusals=True) as page:
        await page.sees("Live")
        await page.ask("Network.setBlockedURLs", urls=["*/v1/keys*"])
        await page.go("#/keys")
        await page.sees("The gateway does not answer.")
        await page.ask("Network.setBlockedURLs", urls=[])
        await page.click("Try again")
        await page.sees("siem-acme")


async def fill(path: Path, count: int) -> None:
    """Store keys in one transaction, or commits would take most of the time."""
    grants = (parse_grant(PULLS),)

    def store_all(connection: apsw.Connection) -> None:
        with connection:
            for number in range(count):
                key, _ = new_key(
                    name=f"key {number}", purpose="one of many", owner=f"team {number % 40}",
                    grants=grants, now=time.time(), life=86400.0 * 90, pepper=b"p" * 32,
                )  # fmt: skip
                key_rows.insert(connection, key)

    store = SqliteKeys(path)
    try:
        await store._changing.run(store_all)
    finally:
        await store.close()


async def test_of_ten_thousand_keys_a_page_is_drawn_and_all_are_found(
    browser: Browser, tmp_path: Path
) -> None:
    with GatewayProcess(tmp_path / "data", settings={}) as many:
        await fill(many.data / "keys.db", 10_000)
        async with browser.page(f"{many.url}/#/keys", ConsolePage) as page:
            await page.look()
            await page.sign_in(many.first_key)
            await page.sees("10,001 of 10,001 keys")
            assert await page.evaluate("document.querySelectorAll('.list tbody tr').length") == 50
            await page.sees("key 9999")
            await page.click("Next page", "link")
            await page.sees("First page")
            await page.sees_no("key 9999")
            await page.fill("Search", "key 4711")
            # Before what is typed is looked for.
            await page.fill("Owner", "team 7")
            await page.click("Drop the search")
            await page.sees("250 of 10,001 keys")
            elements = await page.evaluate("document.querySelectorAll('*').length")
            assert elements < 1500, elements
