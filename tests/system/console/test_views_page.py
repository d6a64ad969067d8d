"""Saved views: a view is saved under a name, opened again and deleted."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.system.console.conftest import OpenConsole

READS = {"actions": ["pull", "stream"], "categories": ["**"]}


@pytest.fixture
def key(gateway: GatewayProcess) -> str:
    return gateway.make_key(READS)


def save(gateway: GatewayProcess, key: str, name: str, view: dict[str, object]) -> None:
    status, answer = gateway.ask("PUT", f"/v1/views/{quote(name)}", key, view)
    assert status in (200, 201), answer


async def test_a_range_is_saved_and_opened_again(
    gateway: GatewayProcess, console: OpenConsole, key: str
) -> None:
    async with console(key, "#/investigate?category=auth.**&outcome=denied&since=7d") as page:
        await page.click("Views …")
        await page.sees("You have saved no view yet.")
        await page.sees("category auth.**, outcome denied; last 7d")
        await page.fill("Name", "denied sign-ins")
        await page.accessible("views-save")
        await page.click("Save")
        await page.sees("The view denied sign-ins is saved.")
        await page.go("#/live")
        await page.click("Views …")
        await page.click("denied sign-ins", kind="link")
        await page.until(
            "location.hash === '#/investigate?category=auth.**&outcome=denied&since=7d'"
        )


async def test_a_range_is_saved_with_fixed_ends(
    gateway: GatewayProcess, console: OpenConsole, key: str
) -> None:
    async with console(key, "#/investigate?since=1h") as page:
        await page.click("Views …")
        await page.fill("Name", "that hour")
        await page.fill("Range", "fixed")
        await page.click("Save")
        await page.sees("is saved")
    _, view = gateway.ask("GET", "/v1/views/that%20hour", key)
    assert view["until"] > view["since"] > "2000"


async def test_a_live_view_is_saved_replaced_and_put_back(
    gateway: GatewayProcess, console: OpenConsole, key: str
) -> None:
    save(gateway, key, "mine", {"query": {"category": "k8s.**"}})
    async with console(key, "#/live?tenant=acme") as page:
        await page.click("Views …")
        await page.fill("Name", "mine")
        await page.sees("Replaces the view of this name.")
        await page.click("Replace it")
        await page.sees("The view mine is replaced.")
        _, view = gateway.ask("GET", "/v1/views/mine", key)
        assert view["query"] == {"tenant": "acme"}
        await page.click("Undo")
        await page.click("Views …")
        await page.sees("category k8s.**; live")


async def test_a_view_is_deleted_by_keyboard_after_a_question_and_put_back(
    gateway: GatewayProcess, console: OpenConsole, key: str
) -> None:
    hostile = "mine + 2"
    save(gateway, key, hostile, {"query": {"filter": 'action == "<img src=x>"'}})
    async with console(key, "#/live") as page:
        await page.click("Views …")
        await page.sees('action == "<img src=x>"')
        await page.find("button", f"Delete the view {hostile}", "it.focus()")
        await page.press("Enter")
        await page.accessible("views-delete")
        await page.click("Keep it")
        await page.click(f"Delete the view {hostile}")
        await page.click("Delete it")
        await page.sees("You have saved no view yet.")
        await page.press("Escape")
        await page.click("Undo")
        await page.click("Views …")
        await page.sees(hostile)
        assert await page.evaluate("document.querySelectorAll('#app img').length") == 0


async def test_a_failure_is_told_and_nothing_that_was_typed_is_lost(
    gateway: GatewayProcess, console: OpenConsole, key: str
) -> None:
    async with console(key, "#/live", refusals=True) as page:
        await page.click("Views …")
        await page.fill("Name", "<b>")
        await page.click("Save")
        await page.sees("the name of a view has at most 64 letters")
        assert await page.find("field", "Name", "it.value") == "<b>"
        problem = json.dumps({"code": "unavailable", "detail": "The store is away."})
        await page.evaluate(
            "window.fetch = () => Promise.resolve(new Response("
            f"{json.dumps(problem)}, {{status: 503}})); true"
        )
        await page.click("Close")
        await page.click("Views …")
        await page.sees("The store is away.")
        await page.accessible("views-failed")
