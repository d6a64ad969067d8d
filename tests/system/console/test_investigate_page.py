"""Investigate: counts over time, values, and events, newest first."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.system.console.conftest import OpenConsole, tenant_of
from tests.system.console.console_page import ConsolePage
from tests.system.console.test_live_page import event


async def shows(page: ConsolePage, actions: list[str]) -> None:
    """Wait until the rows in sight are those, by their actions."""
    shown = (
        "[...document.querySelectorAll('.grid-box [role=row]')]"
        ".sort((a, b) => a.dataset.row - b.dataset.row)"
        ".map((row) => row.querySelector('.cell-action').textContent)"
    )
    await page.until(f"JSON.stringify({shown}) === JSON.stringify({json.dumps(actions)})")


async def test_counts_values_and_events_are_told_and_narrowed(
    key: str, send: Any, console: OpenConsole
) -> None:
    send(*(event(action=f"a{n}", actor={"id": "ann"}) for n in range(3)))
    send(event(action="b", category="door", outcome="denied", actor={"id": "bob"}))
    async with console(key, "#/investigate") as page:
        await page.sees("4 events, exact")
        await shows(page, ["b", "a2", "a1", "a0"])
        await page.until("Boolean(document.querySelector('.histogram canvas'))")
        await page.accessible("investigate")
        await page.click("Only outcome denied")
        await page.sees("1 event, exact")
        await shows(page, ["b"])
        await page.fill("Actor", "ann")
        await page.sees("No events with these conditions.")
        await page.accessible("investigate-none")
        await page.click("Drop outcome")
        await page.sees("3 events, exact")


async def test_text_finds_what_the_key_sees_and_nothing_else(
    key: str, send: Any, console: OpenConsole
) -> None:
    send(event(action="a", reason="caf\u00e9 closed"), event(action="b", reason="open"))
    async with console(key, "#/investigate?text=caf%C3%A9") as page:
        await page.sees("1 event, exact")
        await shows(page, ["a"])


async def test_older_events_come_by_pages(key: str, send: Any, console: OpenConsole) -> None:
    send(*(event(action=f"a{n:03}") for n in range(450)))
    async with console(key, "#/investigate") as page:
        await page.sees("450 events, exact")
        for _ in range(2):
            await page.click("Older ones")
            await page.until("!document.body.innerText.includes('Loading')")
        await page.until("document.querySelector('.grid')?.getAttribute('aria-rowcount') === '451'")


async def test_an_event_is_shown_with_those_around_it(
    key: str, send: Any, console: OpenConsole
) -> None:
    send(*(event(action=f"a{n}") for n in range(5)))
    async with console(key, "#/investigate") as page:
        await page.find("row", "a2", "it.click()")
        await page.click("Around it")
        await page.sees("Around an event")
        await shows(page, ["a4", "a3", "a2", "a1", "a0"])
        await page.accessible("around")


async def test_text_of_events_is_shown_as_it_is_and_turns_nothing_around(
    key: str, send: Any, console: OpenConsole
) -> None:
    name = "<img src=x onerror=alert(1)>\u202egnp.exe\u200b"
    send(event(action="opened", actor={"id": "ann", "name": name}, data={"x\u2066": "\u0000"}))
    async with console(key, "#/investigate") as page:
        await page.find("row", "opened", "it.click()")
        await page.sees("<img src=x onerror=alert(1)>\\u202egnp.exe\\u200b")
        await page.sees("data.x\\u2066")
        text = await page.evaluate("document.body.textContent")
        assert not {"\u202e", "\u200b", "\u2066", "\u0000"} & {*text}
        assert await page.evaluate("document.querySelectorAll('#app img').length") == 0


async def test_an_event_of_very_many_members_is_shown_in_part(
    key: str, send: Any, console: OpenConsole
) -> None:
    send(event(action="opened", data={"list": [n % 10 for n in range(20_000)]}))
    async with console(key, "#/investigate") as page:
        await page.find("row", "opened", "it.click()")
        await page.sees("more members are in its JSON")
        assert await page.evaluate("document.querySelectorAll('.members > div').length") == 500


async def test_a_link_holds_the_range_and_no_data(
    key: str, send: Any, console: OpenConsole
) -> None:
    send(event(action="a"))
    async with console(key, "#/investigate?since=1h&category=auth") as page:
        await page.sees("1 event, exact")
        copied = await page.find("button", "Copy link", "it.closest('.actions') && location.hash")
        assert "category=auth" in copied
        await page.go("#/investigate?since=2020-01-01T00:00:00Z&until=2020-01-02T00:00:00Z")
        await page.sees("0 events, exact")
        await page.sees("Choose a longer one")


async def test_a_hidden_actor_is_left_out_of_the_values(
    gateway: GatewayProcess, send: Any, request: pytest.FixtureRequest, console: OpenConsole
) -> None:
    grant = {"categories": ["**"], "tenants": [tenant_of(request)], "actions": ["pull"]}
    masked = gateway.make_key({**grant, "fields": {"mask": ["actor"]}})
    send(event(action="a", actor={"id": "ann"}))
    async with console(masked, "#/investigate", refusals=True) as page:
        await page.sees("1 event, exact")
        assert "ann" not in await page.evaluate("document.body.innerText")
        assert await page.evaluate("document.querySelectorAll('.facets section').length") == 2


async def test_a_refused_question_says_what_to_do(key: str, console: OpenConsole) -> None:
    async with console(key, "#/investigate?filter=nonsense(", refusals=True) as page:
        await page.until("Boolean(document.querySelector('.failed'))")
        await page.sees("invalid_filter")
        await page.accessible("investigate-failed")
