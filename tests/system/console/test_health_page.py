"""Health: whether events are delivered, since when, and what to do if they are not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.system.console.conftest import OpenConsole

LOOKS = {"actions": ["ops.read", "stream"], "categories": ["**"]}
NOT_OPERATING = {"actions": ["stream", "pull"], "categories": ["**"]}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Its Redis is away."""
    settings = {"AUDIT_GATEWAY_REDIS__URL": "redis://127.0.0.1:1/0"}
    with GatewayProcess(tmp_path_factory.mktemp("gateway") / "data", settings=settings) as process:
        yield process


async def post(gateway: GatewayProcess) -> None:
    event = [{"category": "auth", "action": "user.login"}]
    await asyncio.to_thread(gateway.post, event, gateway.first_key)


async def test_health_says_that_delivery_works_and_since_when(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    await post(gateway)
    async with console(gateway.make_key(LOOKS), "#/health") as page:
        await page.sees("Delivery is healthy")
        await page.sees("since")
        await page.sees("takes events")
        await page.sees("Kept")
        await page.sees("not by the gateway itself")
        await page.sees("0 open findings")
        await page.accessible("health")


async def test_what_is_wrong_is_told_with_what_to_do(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    async with console(gateway.make_key(LOOKS), "#/health") as page:
        await page.sees("Redis does not answer")
        await page.sees("redis_away")
        await page.sees("What to do: see whether Redis answers")
        await page.sees("away for")
        await page.sees("retention_unbounded")
        await page.sees("set store.retention_age or store.retention_bytes")
        await page.sees("checks are ok")
        await page.accessible("health-checks")


async def test_it_is_refreshed_in_the_background(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    async with console(gateway.make_key(LOOKS), "#/health") as page:
        await page.sees("0 open")
        await page.click("Live", "link")
        await page.sees("live")
        await page.go("#/health")
        await page.sees("Delivery is healthy")
        await page.until(
            "performance.getEntriesByType('resource')"
            ".filter((one) => one.name.endsWith('/v1/status')).length >= 3",
            "it was asked again",
        )
        sent = [one for name, one in page.said if name == "Network.requestWillBeSent"]
        asked = [one["request"] for one in sent if one["request"]["url"].endswith("/v1/status")]
        assert [one["headers"].get("X-Audit-Background") for one in asked][-1] == "1"


async def test_a_gateway_that_is_away_leaves_what_was_seen_and_says_of_when(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    async with console(gateway.make_key(LOOKS), "#/health", refusals=True) as page:
        await page.sees("Delivery is healthy")
        await page.ask(
            "Network.emulateNetworkConditions",
            offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1,
        )  # fmt: skip
        await page.sees("What you see is of")
        await page.sees("Delivery is healthy")
        await page.ask(
            "Network.emulateNetworkConditions",
            offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1,
        )  # fmt: skip
        await page.click("Try again")
        await page.until("!document.body.innerText.includes('What you see is of')")


async def test_who_may_not_look_has_no_such_page(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    async with console(gateway.make_key(NOT_OPERATING), "#/health") as page:
        await page.sees("live")
        assert not await page.evaluate("document.body.innerText.includes('Health')")
