"""Usage: how much keys were used, as a chart and a table, and what limits leave."""

from __future__ import annotations

import time
from typing import Any

from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import patience
from tests.system.console.conftest import OpenConsole

READS = {"actions": ["pull", "ingest"], "categories": ["auth"]}
LOOKS = {"actions": ["usage.read"], "categories": ["**"]}


def used(gateway: GatewayProcess) -> dict[str, Any]:
    """A key that has sent three events and read them, and whose usage is counted."""
    wanted = {"name": "collector", "purpose": "test", "owner": "soc", "grants": [READS]}
    _, made = gateway.ask("POST", "/v1/keys", gateway.first_key, wanted)
    gateway.post([{"category": "auth", "action": "user.login"}] * 3, made["key"])
    assert gateway.ask("GET", "/v1/events?from=start&limit=3", made["key"])[0] == 200
    deadline = time.monotonic() + patience(10)
    path = f"/v1/keys/{made['id']}/usage?window=1h&step=1m"
    while not any(
        row["requests"] for row in gateway.ask("GET", path, gateway.first_key)[1]["rows"]
    ):
        assert time.monotonic() < deadline, "nothing is counted"
        time.sleep(0.05)
    key: dict[str, Any] = made
    return key


async def test_the_usage_of_a_key_is_a_chart_and_a_table(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    key = used(gateway)
    looker = gateway.make_key({"actions": ["usage.read", "keys.read"], "categories": ["**"]})
    async with console(looker, "#/usage") as page:
        await page.fill("Key", key["id"])
        await page.find("field", "Key", "it.focus()")
        await page.press("Enter")
        await page.sees("Dashed: the week before.")
        await page.until("document.querySelector('.chart canvas')?.width > 200", "a chart")
        await page.sees("1 of 24 steps with any use")
        await page.accessible("usage")
        names = "[...document.querySelectorAll('datalist option')].map((one) => one.textContent)"
        assert "collector, soc" in await page.evaluate(names)
        await page.fill("Chart", "events")
        await page.until("document.querySelector('.chart').ariaLabel.startsWith('Events in')")
        await page.fill("Range", "1h")
        await page.sees("of 60 steps with any use")
        await page.sees_no("Dashed")
        await page.fill("Step", "5m")
        await page.sees("of 12 steps with any use")
        assert await page.evaluate("location.hash") == (
            f"#/usage?key={key['id']}&window=1h&step=5m&of=events"
        )
        await page.fill("Range", "365d")
        await page.sees("of 53 steps with any use")


async def test_ones_own_key_has_its_limits_beside_it(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    limits = {"requests_per_second": 500, "requests_burst": 1000}
    wanted = {"name": "mine", "purpose": "t", "owner": "o", "grants": [LOOKS], "limits": limits}
    status, made = gateway.ask("POST", "/v1/keys", gateway.first_key, wanted)
    assert status == 201, made
    async with console(made["key"], "#/usage") as page:
        await page.sees("Limits of your key")
        await page.sees("1,000")
        await page.accessible("usage-limits")


async def test_a_key_that_was_not_used_is_told_so(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    unused = gateway.make_key(READS)[5:17]
    async with console(gateway.make_key(LOOKS), f"#/usage?key={unused}") as page:
        await page.sees("The key was not used in the last day.")
        await page.sees_no("Limits of your key")
        await page.accessible("usage-empty")


async def test_an_unknown_key_is_a_failure_with_its_code(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    key = gateway.make_key(LOOKS)
    async with console(key, "#/usage?key=AAAAAAAAAAAA", refusals=True) as page:
        await page.sees("unknown_key")
        await page.accessible("usage-failed")


async def test_usage_over_all_keys_and_owners_is_a_table_that_leads_to_each_key(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    used(gateway)
    async with console(gateway.make_key(LOOKS), "#/usage") as page:
        await page.fill("Whose", "key")
        await page.sees("collector")
        await page.sees("Week before")
        await page.accessible("usage-all")
        await page.fill("Most first", "bytes")
        await page.fill("Whose", "owner")
        await page.sees("soc")
        await page.sees_no("collector")
        await page.fill("Whose", "key")
        await page.click("collector", "link")
        await page.sees("of 24 steps with any use")


async def test_the_limit_of_a_day_is_a_line_of_the_chart_where_it_is_near(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    both = {**READS, "actions": ["pull", "ingest", "usage.read"]}
    wanted = {"name": "near", "purpose": "t", "owner": "o", "grants": [both]}
    for limit, said in (
        (20, "20 a day: the level dashed line."),
        (1000, "1,000 a day, far above."),
    ):
        body = {**wanted, "limits": {"events_per_day": limit}}
        _, made = gateway.ask("POST", "/v1/keys", gateway.first_key, body)
        gateway.post([{"category": "auth", "action": "user.login"}] * 3, made["key"])
        gateway.ask("GET", "/v1/events?from=start&limit=3", made["key"])
        async with console(made["key"], "#/usage?window=30d&step=1d&of=events") as page:
            await page.sees(f"Your limit is {said}")
