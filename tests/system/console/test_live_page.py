"""Live: events in the browser as they are recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.system.clients.browser import Browser
from tests.system.console.conftest import EVERYTHING, OpenConsole, tenant_of
from tests.system.console.console_page import ConsolePage

# What would be code or markup, if it were not text.
HOSTILE = (
    "<img src=x onerror=alert(1)>", "<script>alert(1)</script>", "javascript:alert(1)",
    '"><svg onload=alert(1)>', "{{7*7}}", "${alert(1)}", "</textarea><b>x",
)  # fmt: skip


def event(**members: Any) -> dict[str, Any]:
    return {"category": "auth", "action": "user.login", "outcome": "success", **members}


async def rows(page: ConsolePage) -> list[list[str]]:
    """The cells of the rows in sight, by their numbers."""
    found = await page.evaluate(
        "[...document.querySelectorAll('.grid-box [role=row]')]"
        ".sort((a, b) => a.dataset.row - b.dataset.row)"
        ".map((row) => [...row.querySelectorAll('[role=cell]')].map((cell) => cell.textContent))"
    )
    return [*found]


@pytest.fixture
def key(gateway: GatewayProcess, request: pytest.FixtureRequest) -> str:
    """A key that sees one tenant of its own, called by the test."""
    tenant = tenant_of(request)
    return gateway.make_key({"actions": ["stream"], "categories": ["**"], "tenants": [tenant]})


async def test_events_are_shown_as_they_are_recorded_newest_first(
    key: str, send: Any, console: OpenConsole
) -> None:
    async with console(key) as page:
        await page.sees("Waiting for the first event")
        await page.accessible("live-empty")
        send(event(action="door.opened", actor={"id": "ann"}))
        await page.sees("door.opened")
        send(event(action="door.closed", outcome="denied"))
        await page.sees("door.closed")
        shown = await rows(page)
        assert [row[3] for row in shown] == ["door.closed", "door.opened"]
        assert shown[1][4:] == ["ann", "success"]
        await page.accessible("live")


async def test_an_opened_event_shows_all_members_and_narrows_the_view(
    key: str, send: Any, console: OpenConsole
) -> None:
    async with console(key) as page:
        await page.sees("Waiting")
        send(event(data={"bytes": 5}), event(action="b", data={"bytes": 7}))
        await page.sees("user.login")
        await page.find("row", "user.login", "it.click()")
        await page.sees("data.bytes")
        await page.accessible("live-open")
        await page.click("Only data.bytes 5")
        await page.until("location.hash.includes('filter=')")
        await page.sees("with these conditions")
        send(event(action="c", data={"bytes": 5}), event(action="d", data={"bytes": 6}))
        await page.sees("live")
        await page.until("document.querySelectorAll('.grid-box [role=row]').length === 1")
        assert (await rows(page))[0][3] == "c"
        await page.press("Escape")


async def test_the_whole_page_works_by_keyboard(key: str, send: Any, console: OpenConsole) -> None:
    async with console(key) as page:
        await page.sees("Waiting")
        send(*(event(action=f"a{n:02}") for n in range(60)))
        await page.sees("a59")
        await page.find("button", (await rows(page))[0][0], "it.focus()")
        await page.press("ArrowDown", "ArrowDown", "Enter")
        await page.sees("a57")
        await page.until("document.querySelector('.details h2')?.textContent === 'a57'")
        await page.press("End")
        await page.until("document.activeElement.closest('[data-row]')?.dataset.row === '59'")
        await page.press("?")
        await page.sees("Pause the live view")
        await page.press("Escape")
        await page.sees_no("Pause the live view")


async def test_a_held_view_stays_while_the_stream_goes_on(
    key: str, send: Any, console: OpenConsole
) -> None:
    async with console(key) as page:
        await page.sees("Waiting")
        send(event(action="before"))
        await page.sees("before")
        await page.press(" ")
        await page.sees("paused")
        send(event(action="after"))
        await page.sees("1 newer")
        assert [row[3] for row in await rows(page)] == ["before"]
        await page.click("Show them")
        await page.sees("after")


async def test_content_of_events_stays_text_whatever_it_is(
    key: str, send: Any, console: OpenConsole
) -> None:
    async with console(key) as page:
        await page.sees("Waiting")
        send(*(event(actor={"id": text, "name": text}, reason=text, data={text: text})
               for text in HOSTILE))  # fmt: skip
        await page.until(
            f"document.querySelectorAll('.grid-box [role=row]').length === {len(HOSTILE)}"
        )
        for text in HOSTILE:
            await page.find("row", text, "it.click()")
            await page.until(
                "[...document.querySelectorAll('.details dd .value')]"
                f".some((one) => one.textContent === {json.dumps(text)})"
            )
        assert await page.evaluate("document.querySelectorAll('main img, main script').length") == 0


async def test_a_restarted_gateway_is_waited_for_and_no_event_is_missing(
    tmp_path: Path, browser: Browser
) -> None:
    with GatewayProcess(tmp_path / "data") as first:
        key = first.first_key
        async with browser.page(f"{first.url}/", ConsolePage) as page:
            await page.sign_in(first.make_key(EVERYTHING))
            await page.sees("live")
            first.post([event(action="first")], key)
            await page.sees("first")
            first.stop()
            await page.sees("connecting")
            with GatewayProcess(tmp_path / "data", port=first.port) as second:
                second.post([event(action="second")], key)
                await page.sees("second")
            shown = [row[3] for row in await rows(page) if row[2] == "auth"]
            assert shown == ["second", "first"]


async def test_a_revoked_key_leads_back_to_sign_in_which_says_why(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    key = gateway.make_key({"actions": ["stream"], "categories": ["**"]})
    async with console(key, refusals=True) as page:
        await page.sees("live")
        gateway.ask("POST", f"/v1/keys/{key[5:17]}/revoke", gateway.first_key, {"reason": "over"})
        await page.sees("this key was revoked")
        await page.sees("Provisioning key")


async def test_a_wrong_key_is_told_so_and_does_not_stay_on_the_page(console: OpenConsole) -> None:
    async with console(refusals=True) as page:
        await page.fill("Provisioning key", "alpk_wrong")
        await page.click("Sign in")
        await page.sees("no such key")
        assert await page.find("field", "Provisioning key", "it.value") == ""
        await page.accessible("sign-in")


async def test_a_key_that_may_nothing_is_told_so(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    async with console(gateway.make_key()) as page:
        await page.sees("Nothing to see here")
        await page.accessible("nothing")


async def test_a_key_stays_in_no_place_of_the_browser(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    key = gateway.make_key(EVERYTHING)
    async with console(key) as page:
        kept = await page.evaluate(
            "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie,"
            " location.href, document.documentElement.outerHTML])"
        )
        assert key not in kept
        assert "audit-session" not in kept
        asked = await page.evaluate("indexedDB.databases().then((all) => all.length)")
        assert asked == 0


async def test_a_page_that_cannot_be_loaded_says_so(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    async with console(gateway.make_key(EVERYTHING), refusals=True) as page:
        await page.sees("live")
        await page.ask("Network.setBlockedURLs", urls=["*/console/own-pages-usage*"])
        await page.go("#/usage")
        await page.sees("page_not_loaded")
