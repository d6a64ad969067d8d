"""Review: keys are marked as reviewed, and the report is saved."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.system.clients.browser import Browser
from tests.system.console.conftest import OpenConsole
from tests.system.console.console_page import ConsolePage
from tests.system.console.test_key_list_page import make

# Saves the names and sizes of what is downloaded, which leaves no trace on the page.
HEAR = """
(() => {
  window.saved = [];
  const make = URL.createObjectURL;
  URL.createObjectURL = (blob) => { saved.push(blob); return make(blob); };
  HTMLAnchorElement.prototype.click = function () { saved.push(this.download); };
})()
"""
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def made(gateway: GatewayProcess) -> list[dict[str, Any]]:
    return [
        make(gateway, "siem-acme", owner="soc", purpose="alerts on sign-ins"),
        make(gateway, HOSTILE, owner="apps", purpose=HOSTILE),
        make(gateway, "theirs", owner="auditors"),
    ]


@pytest.fixture(scope="module")
def auditor(gateway: GatewayProcess) -> str:
    return str(make(gateway, "auditor", grants=[], roles=["auditor"], owner="auditors")["key"])


async def test_a_key_is_marked_as_reviewed_and_goes_to_the_end_of_the_list(
    console: OpenConsole, made: list[dict[str, Any]], auditor: str
) -> None:
    async with console(auditor, "#/review") as page:
        await page.sees("siem-acme")
        await page.sees(HOSTILE)
        await page.sees("alerts on sign-ins")
        await page.accessible("review")
        await page.look(dark=True)
        await page.shoot("review-1280-dark")
        await page.look()
        await page.click("Mark siem-acme as reviewed")
        await page.sees("You have looked at what it may do")
        await page.accessible("review-asked")
        await page.fill("Reason", "still needed")
        await page.click("Mark as reviewed")
        await page.sees("The key siem-acme is marked as reviewed.")
        await page.until(
            "[...document.querySelectorAll('.list tbody tr')].at(-1)?.innerText"
            ".includes('siem-acme')"
        )
        await page.sees_no("Mark theirs as reviewed")
        await page.sees("yours, for others to review")


async def test_the_report_is_saved_in_four_formats(
    console: OpenConsole, made: list[dict[str, Any]], auditor: str
) -> None:
    async with console(auditor, "#/keys") as page:
        await page.sees("siem-acme")
        await page.click("Review", "link")
        await page.sees("Save the report as")
        await page.sees("alerts on sign-ins")
        await page.evaluate(HEAR)
        await page.fill("Owner", "soc")
        await page.sees_no("theirs")
        for label, suffix, holds in (
            ("HTML", "html", "<h1>Access review</h1>"), ("CSV", "csv", "section,"),
            ("Markdown", "md", "# Access review"), ("JSON", "json", '"review":{'),
        ):  # fmt: skip
            await page.evaluate("saved.length = 0")
            await page.click(label)
            name = await page.until("saved.length === 2 && saved[1]")
            assert name.startswith("access-review-")
            assert name.endswith(f".{suffix}")
            content = await page.evaluate("saved[0].text()")
            assert holds in content
            assert "siem-acme" in content
            assert "theirs" not in content
            await page.sees(f"{name} is saved")


async def test_keys_are_found_by_the_keyboard_and_conditions_are_dropped(
    console: OpenConsole, made: list[dict[str, Any]], auditor: str
) -> None:
    async with console(auditor, "#/keys") as page:
        await page.sees("siem-acme")
        await page.press("g", "v")
        await page.sees("Save the report as")
        await page.press("/")
        await page.fill("Search", "no such words")
        await page.sees("No keys with these conditions.")
        await page.click("Drop the search")
        await page.sees("siem-acme")


async def test_a_report_that_does_not_come_says_why(
    console: OpenConsole, made: list[dict[str, Any]], auditor: str
) -> None:
    async with console(auditor, "#/review", refusals=True) as page:
        await page.sees("siem-acme")
        await page.ask("Network.setBlockedURLs", urls=["*/v1/*"])
        await page.click("CSV")
        await page.sees("The gateway does not answer.")
        await page.go("#/review?owner=apps")
        await page.sees("Try again")
        await page.ask("Network.setBlockedURLs", urls=[])
        await page.click("Try again")
        await page.sees(HOSTILE)


async def test_who_does_not_look_at_keys_has_no_page_of_reviews(
    gateway: GatewayProcess, browser: Browser
) -> None:
    key = gateway.make_key({"actions": ["stream"], "categories": ["**"]})
    async with browser.page(f"{gateway.url}/#/review", ConsolePage) as page:
        await page.look()
        await page.sign_in(key)
        await page.sees("Live")
        await page.sees_no("Save the report")
