"""A key is handed out by somebody who never did so, who sees what it sees, and finds its use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.system.console.conftest import EVERYTHING, OpenConsole

ROOT = Path(__file__).parents[3]


async def test_a_vendor_gets_a_key_for_errors_alone_in_five_decisions(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    events = [
        {"category": "api", "action": "call.failed", "tenant": "acme", "severity": 5},
        {"category": "api", "action": "call.made", "tenant": "acme", "severity": 1},
    ]
    gateway.post(events, gateway.first_key)
    async with console(gateway.make_key(EVERYTHING), "#/keys") as page:
        await page.click("New key")
        # 1: for what and whose.
        await page.fill("Name", "vendor")
        await page.fill("Purpose", "errors of our API")
        await page.fill("Owner", "vendor@example.org")
        # 2: what; errors alone are what is offered first.
        await page.fill("Events", "errors")
        await page.sees("would see 1 event of 24 h · of 1 tenant")
        await page.sees("call.failed")
        await page.sees_no("call.made")
        await page.sees(
            "May stream and pull events of any category but the gateway's own of severity 4"
        )
        await page.sees("Cannot send events.")
        # What exists is picked from, with its number of events.
        await page.click("acme 2")
        await page.sees("of the tenant acme of severity 4")
        # 3: what is left out: nothing.
        # 4: how long.
        await page.fill("Ends in", "30d")
        await page.fill("Rotates", "7d")
        await page.accessible("new-key")
        await page.click("Make the key")
        # 5: it is shown this once, and stored.
        await page.sees("shown this once")
        key = await page.evaluate("document.querySelector('.secret').textContent")
        await page.shoot("new-key-shown")
        await page.click("Done")
        await page.click("It is stored")
        await page.sees("errors of our API")
        await page.sees("every 7d, both secrets work for 1d")
        assert key not in await page.evaluate("document.body.innerText")
        status, seen = gateway.ask("GET", "/v1/events?limit=100", key)
        assert (status, [one["action"] for one in seen["events"]]) == (200, ["call.failed"])
        assert "call.made" not in json.dumps(seen)
        # Its use is found afterwards.
        await page.go("#/keys?q=vendor")
        await page.click("vendor", "link")
        await page.sees("from 127.0.0.1")
        await page.sees("Usage of 24 hours")
        await page.accessible("key")
        await page.fill("Category of an event", "api")
        await page.fill("Its tenant", "globex")
        await page.click("Explain")
        await page.sees("denied")


async def test_a_new_key_hides_members_as_chosen_and_is_read_as_chosen(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    event = {
        "category": "hr", "action": "file.read", "actor": {"id": "ann"}, "tenant": "hidden",
        "source": {"ip": "10.9.8.7"}, "data": {"file": "salaries"},
    }  # fmt: skip
    gateway.post([event], gateway.first_key)
    async with console(gateway.make_key(EVERYTHING), "#/keys/new") as page:
        await page.fill("Name", "some-of-it")
        await page.fill("Purpose", "who reads files")
        await page.fill("Owner", "hr@example.org")
        await page.fill("Events", "category")
        await page.fill("Category", "hr")
        await page.fill("Tenants", "hidden")
        await page.fill("Read", "pull")
        await page.fill("Who did it", "pseudonymize")
        await page.fill("Where it came from", "mask")
        await page.fill("Details", "drop")
        await page.sees("would see 1 event of 24 h")
        await page.click("Make the key")
        await page.sees("shown this once")
        await page.sees("curl, the newest page")
        await page.sees_no("follow live")
        key = await page.evaluate("document.querySelector('.secret').textContent")
        await page.click("Done")
        await page.click("It is stored")
        await page.sees("who reads files")
    _, page_of_events = gateway.ask("GET", "/v1/events", key)
    [seen] = page_of_events["events"]
    assert seen["source"] == {"ip": "***"}
    assert "data" not in seen
    assert seen["actor"]["id"] not in ("ann", "***")
    assert seen["pseudonymized"] == ["actor"]
    assert gateway.ask("GET", "/v1/stream", key)[0] == 403


@pytest.mark.parametrize(
    ("recipe", "until"),
    [("vector/vector.yaml", "transforms"), ("filebeat/filebeat.yml", "processors")],
)
def test_lines_of_a_new_key_are_those_of_the_recipe(recipe: str, until: str) -> None:
    text = (ROOT / "deploy" / "shippers" / recipe).read_text()
    page = (ROOT / "gateway/http/console/static/own/parts/minted.js").read_text()
    lines = text[: text.index(until)].splitlines()
    assert "\n".join(line for line in lines if not line.startswith("data_dir")) in page


async def test_a_new_key_is_not_left_before_somebody_says_that_it_is_stored(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    async with console(gateway.make_key(EVERYTHING), "#/keys/new") as page:
        await page.fill("Name", "left")
        await page.fill("Purpose", "to be left")
        await page.fill("Owner", "soc@example.org")
        await page.fill("Events", "errors")
        await page.click("Make the key")
        await page.sees("shown this once")
        await page.click("Live", "link")
        await page.sees("Is it stored?")
        await page.click("Back to the key")
        await page.sees("shown this once")
        await page.press("g", "r")
        await page.sees("Is it stored?")
        await page.click("It is stored")
        await page.until("location.hash === '#/roles'")
        await page.sees_no("shown this once")


async def test_a_key_is_suspended_resumed_and_revoked_after_it_was_said_what_that_does(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    key = gateway.make_key({"actions": ["pull"], "categories": ["**"]})
    async with console(gateway.make_key(EVERYTHING), f"#/keys/{key[5:17]}") as page:
        await page.click("Suspend")
        await page.sees("Its streams end at once")
        await page.fill("Reason", "a test")
        await page.press("Escape")
        assert gateway.ask("GET", "/v1/events", key)[0] == 200
        await page.click("Suspend")
        await page.fill("Reason", "a test")
        await page.click("Suspend")
        await page.sees("is suspended.")
        assert gateway.ask("GET", "/v1/events", key)[0] == 401
        await page.click("Resume")
        await page.click("Resume")
        await page.sees("is resumed.")
        assert gateway.ask("GET", "/v1/events", key)[0] == 200
        await page.click("Revoke")
        await page.fill("Reason", "a test")
        await page.click("Revoke")
        await page.sees("is revoked.")
        assert gateway.ask("GET", "/v1/events", key)[0] == 401
