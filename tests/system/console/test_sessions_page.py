"""Sessions: who is signed in, and the end of a session."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.system.console.conftest import EVERYTHING, OpenConsole
from tests.system.console.console_page import ConsolePage

READS = {"actions": ["pull"], "categories": ["**"]}


@pytest.fixture
def key(gateway: GatewayProcess) -> Iterator[str]:
    """A key whose sessions have ended after the test."""
    made = gateway.make_key(READS)
    yield made
    gateway.ask("POST", f"/v1/keys/{made[5:17]}/revoke", gateway.first_key, {})


async def test_a_session_elsewhere_is_ended_after_a_question(
    gateway: GatewayProcess, console: OpenConsole, key: str
) -> None:
    async with console(key) as there:
        async with console(key, "#/sessions") as page:
            await page.sees("Where your own key is signed in")
            await page.sees("this one")
            await page.accessible("sessions")
            await page.find("button", "End the session of ", "it.focus()")
            await page.press("Enter")
            await page.sees("End this session?")
            await page.sees("may sign in again")
            await page.accessible("sessions-end")
            await page.click("End the session")
            await page.sees("has ended")
            await page.until("document.querySelectorAll('table.list tbody tr').length === 1")
        await there.go("#/sessions")
        await there.sees("this session has ended; sign in again")
        there.said = [one for one in there.said if one[0] != "Log.entryAdded"]


async def test_sessions_of_others_are_shown_to_those_who_read_keys_and_ended_by_administrators(
    gateway: GatewayProcess, console: OpenConsole, key: str
) -> None:
    reader = {"actions": ["keys.read"], "categories": ["**"]}
    async with console(key):
        async with console(gateway.make_key(reader), "#/sessions") as page:
            await page.sees("Everybody who is signed in")
            await page.sees(key[5:17])
            await page.sees_no("End …")
        async with console(gateway.make_key(EVERYTHING), "#/sessions") as page:
            await page.sees(key[5:17])
            await page.find("button", "End the session of ", "it")


async def _answers(page: ConsolePage, answer: dict[str, object], status: int = 200) -> None:
    """Have the page's next looks at sessions answered so."""
    await page.evaluate(
        "{ const before = window.fetch; window.fetch = (to, how) =>"
        " String(to).startsWith('/v1/sessions') ? Promise.resolve(new Response("
        f"{json.dumps(json.dumps(answer))}, {{status: {status}}})) : before(to, how); }} true"
    )


async def test_states_of_the_list_are_told(
    gateway: GatewayProcess, console: OpenConsole, key: str
) -> None:
    one = {
        "id": "0" * 32, "key": key[5:17], "name": "<b>n</b>", "created_at": "2026-01-01T00:00:00Z",
        "used_at": "2026-01-01T00:00:00Z", "ends_at": "2026-01-01T00:30:00Z", "address": None,
        "client": "***", "current": False,
    }  # fmt: skip
    async with console(key) as page:
        await _answers(page, {"sessions": [one], "total": 1001})
        await page.go("#/sessions")
        await page.sees("of 1,001")
        await page.sees("<b>n</b>")
        await page.sees("hidden")
    async with console(key) as page:
        await _answers(page, {"sessions": [], "total": 0})
        await page.go("#/sessions")
        await page.sees("Nobody is signed in.")
    async with console(key) as page:
        await _answers(page, {"code": "unavailable", "detail": "The store is away."}, 503)
        await page.go("#/sessions")
        await page.sees("The store is away.")
        await page.accessible("sessions-failed")
        await page.click("Try again")
        await page.sees("unavailable")
