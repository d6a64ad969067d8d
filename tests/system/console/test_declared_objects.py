"""Keys and roles that a set declares: marked, and warned of before they are changed."""

from __future__ import annotations

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.system.console.conftest import OpenConsole

GRANT = {"actions": ["pull"], "categories": ["auth.**"]}


@pytest.fixture
def siem(gateway: GatewayProcess) -> str:
    """Id of a declared key, which has a declared role."""
    declared = {
        "roles": {"declared-reader": {"grants": [GRANT]}},
        "keys": {"siem": {"purpose": "alerts", "owner": "soc", "roles": ["declared-reader"]}},
    }
    status, answer = gateway.ask("POST", "/v1/declarations/prod", gateway.first_key, declared)
    assert status == 200, answer
    _, listed = gateway.ask("GET", "/v1/keys", gateway.first_key)
    [made] = [one["id"] for one in listed["keys"] if one.get("managed_by") == "prod/siem"]
    return str(made)


async def test_what_a_set_declares_is_marked_and_warned_of(
    gateway: GatewayProcess, console: OpenConsole, siem: str
) -> None:
    async with console(gateway.first_key, f"#/keys/{siem}") as page:
        await page.sees("It is declared as prod/siem")
        await page.accessible("declared-key")
        await page.click("Suspend")
        await page.sees("it is refused until it is resumed. It is declared as prod/siem")
        await page.press("Escape")
        await page.go("#/roles/declared-reader")
        await page.sees("It is declared as prod/declared-reader")
        await page.shoot("declared-role")
        await page.go("#/keys")
        await page.sees("declared")
        await page.shoot("declared-keys")
