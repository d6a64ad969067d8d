"""Roles: what they grant, who has them, and what a change would change before it is made."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.system.console.conftest import EVERYTHING, OpenConsole

LOOKS = {"actions": ["keys.read"], "categories": ["**"]}
ADMINISTERS = {
    "actions": ["keys.admin", "usage.read", "stream", "pull", "ingest"], "categories": ["**"],
}  # fmt: skip


@pytest.fixture(scope="module")
def admin(gateway: GatewayProcess) -> str:
    return gateway.make_key(ADMINISTERS)


@pytest.fixture
def role(gateway: GatewayProcess, request: pytest.FixtureRequest) -> str:
    """The name of a role that reads sign-ins and billing, which the key of `reader` has."""
    name = str(request.node.name).replace("_", "-")[-60:].strip("-")
    grants = [{"id": "both", "actions": ["stream", "pull"], "categories": ["auth", "billing"]}]
    body = {"description": "reads two categories", "grants": grants}
    status, answer = gateway.ask("PUT", f"/v1/roles/{name}", gateway.first_key, body)
    assert status in (200, 201), answer
    return name


@pytest.fixture
def reader(gateway: GatewayProcess, role: str) -> dict[str, Any]:
    wanted = {"name": "reader", "purpose": "test", "owner": "soc", "grants": [], "roles": [role]}
    status, answer = gateway.ask("POST", "/v1/keys", gateway.first_key, wanted)
    assert status == 201, answer
    made: dict[str, Any] = answer
    return made


def stored(gateway: GatewayProcess, role: str) -> Any:
    return gateway.ask("GET", f"/v1/roles/{role}", gateway.first_key)


async def test_a_role_shows_its_grants_and_who_has_it(
    gateway: GatewayProcess, console: OpenConsole, role: str, reader: dict[str, Any]
) -> None:
    async with console(gateway.make_key(LOOKS), "#/roles") as page:
        await page.sees("auditor")
        await page.sees("predefined")
        await page.accessible("roles")
        await page.find("link", role, "it.focus()")
        await page.press("Enter")
        await page.sees("Keys that have it")
        await page.sees("reader")
        await page.sees('"billing"')
        await page.accessible("roles-open")
        # Who may look only has no buttons.
        await page.sees_no("Change …")
        await page.sees_no("New role")
        await page.go("#/roles/auditor")
        await page.sees("Predefined roles cannot be changed.")
        await page.sees("No key has it.")


async def test_a_change_shows_who_narrows_before_it_is_put_and_undo_takes_it_back(
    gateway: GatewayProcess, console: OpenConsole, role: str, reader: dict[str, Any], admin: str
) -> None:
    gateway.post([{"category": "billing", "action": "paid"}] * 3, gateway.first_key)
    before = stored(gateway, role)
    async with console(admin, f"#/roles/{role}") as page:
        await page.click("Change …")
        await page.fill("Role as JSON", '{"grants": [{"actions": ["pull"], "categories":')
        await page.click("Preview")
        await page.sees("No JSON")
        grants = [{"actions": ["stream", "pull"], "categories": ["auth"]}]
        await page.fill("Role as JSON", json.dumps({"description": "less", "grants": grants}))
        await page.click("Preview")
        await page.sees("Of 1 keys 1 would see or do less")
        await page.find("row", reader["id"], "it.textContent.includes('3')")
        assert stored(gateway, role) == before
        await page.accessible("roles-preview")
        await page.click("Put the role")
        await page.sees(f"The role {role} is changed.")
        assert stored(gateway, role)[1]["grants"][0]["categories"] == ["auth"]
        await page.click("Undo")
        await page.sees("is as it was")
        assert stored(gateway, role) == before


async def test_a_role_is_made_and_deleted_after_a_question(
    gateway: GatewayProcess, console: OpenConsole, admin: str, reader: dict[str, Any], role: str
) -> None:
    async with console(admin, "#/roles") as page:
        await page.click("New role")
        await page.fill("Name", "just-made")
        await page.accessible("roles-new")
        # Nothing that is typed is lost by a key.
        await page.find("field", "Name", "it.focus()")
        await page.press("Escape")
        await page.click("Preview")
        await page.sees("No key has it, so nothing changes now.")
        await page.click("Put the role")
        await page.sees("The role just-made is made.")
        assert stored(gateway, "just-made")[0] == 200
        await page.go(f"#/roles/{role}")
        await page.click("Delete …")
        await page.sees(f"These have it: reader ({reader['id']})")
        await page.accessible("roles-delete")
        await page.press("Escape")
        await page.sees_no("These have it")
        assert stored(gateway, role)[0] == 200
        await page.click("Delete …")
        await page.click("Delete the role")
        await page.sees(f"The role {role} is deleted; 1 keys had it.")
        assert stored(gateway, role)[0] == 404


async def test_a_refusal_is_said_beside_the_change(
    gateway: GatewayProcess, console: OpenConsole, admin: str
) -> None:
    async with console(admin, "#/roles?new=1", refusals=True) as page:
        await page.fill("Name", "too-much")
        grants = [{"actions": ["pull"], "categories": ["gateway.**"]}]
        await page.fill("Role as JSON", json.dumps({"grants": grants}))
        await page.click("Preview")
        await page.click("Put the role")
        await page.sees("exceeds_own_grants")
        await page.accessible("roles-refused")


async def test_an_unknown_role_is_said_to_be_none(
    gateway: GatewayProcess, console: OpenConsole
) -> None:
    async with console(gateway.make_key(EVERYTHING), "#/roles/nothing") as page:
        await page.sees("There is no such role.")
