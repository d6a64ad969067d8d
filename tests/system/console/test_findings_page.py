"""Findings: what is unusual, why, and what is made of it."""

from __future__ import annotations

import time

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import patience
from tests.system.console.conftest import EVERYTHING, OpenConsole

READS = {"actions": ["pull"], "categories": ["auth"]}
LOOKS = {"actions": ["usage.read"], "categories": ["**"]}


def find(gateway: GatewayProcess, key: str) -> str:
    """Have a key refused until there is a finding about it, whose id it returns."""
    for _ in range(5):
        assert gateway.ask("GET", "/v1/keys", key)[0] == 403
    deadline = time.monotonic() + patience(10)
    while True:
        _, answer = gateway.ask("GET", f"/v1/findings?key={key[5:17]}", gateway.first_key)
        if answer["findings"]:
            found: str = answer["findings"][0]["id"]
            return found
        assert time.monotonic() < deadline, "no finding"
        time.sleep(0.05)


@pytest.fixture
def key(gateway: GatewayProcess) -> str:
    return gateway.make_key(READS)


@pytest.fixture(scope="module")
def admin(gateway: GatewayProcess) -> str:
    return gateway.make_key(EVERYTHING)


async def test_a_quiet_gateway_says_that_nothing_was_found(
    tmp_path_factory: pytest.TempPathFactory, gateway: GatewayProcess, console: OpenConsole
) -> None:
    # The first test of the module: nothing has been provoked yet.
    async with console(gateway.make_key(LOOKS), "#/findings") as page:
        await page.sees("Nothing unusual was found.")
        await page.sees("Open 0")
        await page.accessible("findings-empty")


async def test_a_finding_tells_what_why_and_the_uses_themselves(
    gateway: GatewayProcess, console: OpenConsole, key: str, admin: str
) -> None:
    find(gateway, key)
    async with console(admin, "#/findings") as page:
        await page.sees("Refused again and again")
        await page.accessible("findings")
        await page.find("row", key[5:17], "it.querySelector('a').focus()")
        await page.press("Enter")
        await page.sees("at least 5 times within 10 minutes")
        await page.sees("Its uses then")
        await page.sees("request.denied")
        await page.sees("127.0.0.1")
        await page.accessible("findings-open")
        await page.press("Escape")
        await page.sees_no("Its uses then")


async def test_a_finding_is_marked_as_expected_and_taken_back(
    gateway: GatewayProcess, console: OpenConsole, key: str, admin: str
) -> None:
    identity = find(gateway, key)

    def state() -> str:
        _, answer = gateway.ask("GET", f"/v1/findings?key={key[5:17]}", gateway.first_key)
        [found] = [one for one in answer["findings"] if one["id"] == identity]
        return str(found["state"])

    async with console(admin, f"#/findings/{identity}?key={key[5:17]}") as page:
        await page.click("Expected …")
        await page.sees("From now on")
        await page.accessible("findings-expect")
        await page.fill("Reason", "a load test")
        await page.click("Mark as expected")
        await page.sees("this signal is silent from now on")
        await page.sees("a load test")
        assert state() == "expected"
        await page.click("Undo")
        await page.sees("Open 1")
        assert state() == "open"
        await page.click("Expected …")
        await page.fill("Reason", "still a load test")
        await page.click("Mark as expected")
        await page.click("Not expected")
        await page.sees("The signal is heard again")
        assert state() == "open"


async def test_its_key_is_suspended_after_a_question_and_resumed_by_undo(
    gateway: GatewayProcess, console: OpenConsole, key: str, admin: str
) -> None:
    identity = find(gateway, key)
    async with console(admin, f"#/findings/{identity}") as page:
        await page.click("Suspend key …")
        await page.sees("its streams end with 4504")
        await page.press("Escape")
        await page.sees_no("its streams end with 4504")
        assert gateway.ask("GET", "/v1/events", key)[0] == 200
        await page.click("Suspend key …")
        await page.fill("Reason", "looked at")
        await page.click("Suspend the key")
        await page.sees("is suspended")
        assert gateway.ask("GET", "/v1/events", key)[0] == 401
        await page.click("Undo")
        await page.sees("counts again")
        assert gateway.ask("GET", "/v1/events", key)[0] == 200


async def test_what_cannot_be_undone_any_more_is_said(
    gateway: GatewayProcess, console: OpenConsole, key: str, admin: str
) -> None:
    identity = find(gateway, key)
    async with console(admin, f"#/findings/{identity}", refusals=True) as page:
        await page.click("Suspend key …")
        await page.fill("Reason", "looked at")
        await page.click("Suspend the key")
        await page.sees("is suspended")
        path = f"/v1/keys/{key[5:17]}/revoke"
        assert gateway.ask("POST", path, gateway.first_key, {"reason": "over"})[0] == 200
        await page.click("Undo")
        await page.sees("It could not be undone")


async def test_tabs_and_conditions_choose_and_can_be_dropped(
    gateway: GatewayProcess, console: OpenConsole, key: str, admin: str
) -> None:
    identity = find(gateway, key)
    gateway.ask("POST", f"/v1/findings/{identity}/expected", gateway.first_key, {"reason": "x"})
    async with console(admin, f"#/findings?key={key[5:17]}") as page:
        await page.sees("Expected 1")
        await page.sees("Open 0")
        await page.click("Expected 1")
        await page.sees("Refused again and again")
        await page.fill("Signal", "new_network")
        await page.sees("No findings with these conditions.")
        await page.accessible("findings-filtered")
        await page.click("Drop the signal")
        await page.sees("Refused again and again")


async def test_who_may_not_judge_is_shown_no_button(
    gateway: GatewayProcess, console: OpenConsole, key: str
) -> None:
    identity = find(gateway, key)
    async with console(gateway.make_key(LOOKS), f"#/findings/{identity}") as page:
        await page.sees("at least 5 times within 10 minutes")
        await page.sees_no("Expected …")
        await page.sees_no("Suspend")
        await page.sees_no("Its uses then")


async def test_nobody_judges_a_finding_about_themselves(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    judge = gateway.make_key({"actions": ["keys.admin", "usage.read"], "categories": ["**"]})
    for _ in range(5):
        assert gateway.ask("GET", "/v1/events", judge)[0] == 403
    _, successor = gateway.ask("POST", f"/v1/keys/{judge[5:17]}/rotate", gateway.first_key, {})
    async with console(successor["key"], f"#/findings?key={judge[5:17]}", refusals=True) as page:
        await page.find("row", judge[5:17], "it.querySelector('a').click()")
        await page.click("Expected …")
        await page.fill("Reason", "it was me")
        await page.click("Mark as expected")
        # What the gateway says, in the dialog.
        await page.until("document.querySelector('dialog .problem')?.textContent", "a refusal")
    async with console(judge, f"#/findings?key={judge[5:17]}") as page:
        await page.find("row", judge[5:17], "it.querySelector('a').click()")
        await page.sees("somebody else has to judge it")
        await page.sees_no("Expected …")


async def test_a_failure_is_told_with_its_code(
    gateway: GatewayProcess, console: OpenConsole, admin: str
) -> None:
    async with console(admin, "#/findings?signal=made_up", refusals=True) as page:
        await page.until("document.querySelector('.failed code')?.textContent", "a code")
        await page.accessible("findings-failed")
