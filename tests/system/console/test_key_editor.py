"""A key is changed on its page: simulated first, and applied as it was simulated, or not at all."""

from __future__ import annotations

import json
from typing import Any

from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import becomes
from tests.system.console.conftest import EVERYTHING, OpenConsole

AUTH = {"actions": ["stream", "pull"], "categories": ["auth.**"]}


def make(gateway: GatewayProcess, **members: Any) -> Any:
    wanted = {"name": "siem", "purpose": "alerts", "owner": "soc", "grants": [AUTH], **members}
    status, answer = gateway.ask("POST", "/v1/keys", gateway.first_key, wanted)
    assert status == 201, answer
    return answer


def shown(gateway: GatewayProcess, key: Any) -> Any:
    return gateway.ask("GET", f"/v1/keys/{key['id']}", gateway.first_key)[1]


async def test_a_key_is_changed_to_what_was_simulated(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    key = make(gateway, rotate={"every": "30d", "overlap": "1d"})
    gateway.post([{"category": "auth.session", "action": "user.login"}], gateway.first_key)
    assert gateway.ask("GET", "/v1/events?category=auth.**", key["key"])[0] == 200

    async def used() -> bool:
        path = f"/v1/keys/{key['id']}/history"
        page = gateway.ask("GET", path, gateway.first_key)[1]
        return any(one["action"] == "events.pulled" for one in page["events"])

    await becomes(used, bool)
    narrow = {**AUTH, "actions": ["stream"]}
    async with console(gateway.make_key(EVERYTHING), f"#/keys/{key['id']}") as page:
        await page.sees("every 30d, both secrets work for 1d")
        await page.click("Change")
        await page.fill("Owner", "detection")
        await page.fill("Rotates every", "7d")
        await page.fill("Grants as JSON", "[")
        await page.click("Simulate")
        await page.sees("No JSON")
        await page.fill("Grants as JSON", json.dumps([narrow]))
        await page.click("Simulate")
        await page.sees("It changes owner, grants, rotate")
        await page.sees("1 use of the last 7 days would be denied")
        for width, dark in ((1280, False), (360, True)):
            await page.look(width=width, dark=dark)
            await page.shoot(f"key-change-{width}{'-dark' if dark else ''}")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        await page.accessible("key-change")
        assert shown(gateway, key)["owner"] == "soc", "nothing is changed yet"
        await page.click("Apply")
        await page.sees("The key siem is changed.")
        await page.sees("every 7d")
    after = shown(gateway, key)
    assert (after["owner"], after["grants"]) == ("detection", [narrow])
    assert after["rotate"] == {"every": "7d", "overlap": "1d"}


async def test_a_change_that_somebody_else_has_overtaken_is_not_applied_and_says_what_differs(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    key = make(gateway)
    async with console(gateway.make_key(EVERYTHING), f"#/keys/{key['id']}") as page:
        await page.click("Change")
        await page.fill("Purpose", "mine")
        await page.click("Simulate")
        await page.sees("It changes purpose")
        path = f"/v1/keys/{key['id']}/suspend"
        gateway.ask("POST", path, gateway.first_key, {"reason": "odd"})
        await page.click("Apply")
        await page.sees("The key was changed meanwhile, so nothing was applied.")
        assert shown(gateway, key)["purpose"] == "alerts"
        await page.click("Begin with what it is now")
        await page.fill("Purpose", "mine")
        await page.click("Simulate")
        await page.click("Apply")
        await page.sees("The key siem is changed.")
    assert shown(gateway, key)["purpose"] == "mine"


async def test_whoever_only_looks_at_keys_is_offered_no_change(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    key = make(gateway)
    looks = {"actions": ["keys.read"], "categories": ["**"]}
    async with console(gateway.make_key(looks), f"#/keys/{key['id']}") as page:
        await page.sees("alerts")
        await page.sees_no("Change")
