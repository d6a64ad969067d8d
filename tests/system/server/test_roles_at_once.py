"""Roles and keys that are changed at the same moment: no right is won in between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gateway_client import Answer
from gateways import Gateway

from gateway.access.administration import issuer
from gateway.access.grants.role import Role
from gateway.access.keys.key_store import RoleCheck

ADMIN = {"actions": ["keys.admin"], "categories": ["**"]}
AUTH = {"actions": ["stream", "pull"], "categories": ["auth.**"]}
HOLDING = {"effect": "deny", "actions": ["stream", "pull"], "categories": ["auth.secret"]}
HELD = [AUTH, HOLDING, ADMIN]
BODY = {"name": "n", "purpose": "p", "owner": "o"}


async def put(gateway: Gateway, name: str, grants: list[Any], by: str) -> Answer:
    return await gateway.request("PUT", f"/v1/roles/{name}", key=by, json={"grants": grants})


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_a_denying_role_stays_with_the_key_that_is_made_while_it_is_taken_away(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Who is denied a part makes a key with that denial in a role, and takes away the role."""
    held = await gateway.mint(*HELD)
    assert (await put(gateway, "holding", [HOLDING], gateway.admin)).status == 201
    keys = gateway.context.key_store
    name = "delete_role" if how == "deleted" else "put_role"
    changing = getattr(keys, name)
    made: list[Answer] = []

    async def change(*args: Any, **options: Any) -> Any:
        body = {**BODY, "grants": [AUTH], "roles": ["holding"]}
        made.append(await gateway.post("/v1/keys", key=held, json=body))
        return await changing(*args, **options)

    monkeypatch.setattr(keys, name, change)
    if how == "deleted":
        answer = await gateway.request("DELETE", "/v1/roles/holding", key=held)
    else:
        answer = await put(gateway, "holding", [], held)
    assert made[0].status == 201
    answer.problem(403, "exceeds_own_grants")
    shown = await gateway.get(f"/v1/keys/{made[0].json()['id']}", key=gateway.admin)
    assert shown.json()["roles"] == ["holding"]
    assert (await gateway.get("/v1/roles/holding", key=gateway.admin)).json()["grants"] != []


async def test_a_role_that_is_made_broad_at_the_same_moment_is_not_overwritten(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = await gateway.mint(AUTH, ADMIN)
    assert (await put(gateway, "team", [AUTH], narrow)).status == 201
    keys = gateway.context.key_store
    changing = keys.put_role

    async def change(role: Role, *args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        everything = {"actions": ["pull"], "categories": ["**"]}
        assert (await put(gateway, "team", [everything], gateway.admin)).status == 200
        return await changing(role, *args, **options)

    monkeypatch.setattr(keys, "put_role", change)
    (await put(gateway, "team", [AUTH], narrow)).problem(403, "exceeds_own_grants")
    shown = await gateway.get("/v1/roles/team", key=gateway.admin)
    assert shown.json()["grants"][0]["categories"] == ["**"]


async def test_roles_are_compared_in_slices_and_not_within_the_change(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow, compared = await gateway.mint(AUTH, ADMIN), []
    real = issuer.uncovered_grant

    def uncovered_grant(*policies: Any) -> Any:
        compared.append(asyncio.current_task())
        yield
        return (yield from real(*policies))

    monkeypatch.setattr(issuer, "uncovered_grant", uncovered_grant)
    keys = gateway.context.key_store
    changing = keys.put_role

    async def change(role: Role, *args: Any, check: RoleCheck, **options: Any) -> Any:
        before = len(compared)
        try:
            return await changing(role, *args, check=check, **options)
        finally:
            assert before
            assert len(compared) == before

    monkeypatch.setattr(keys, "put_role", change)
    for grants in ([AUTH, HOLDING], [AUTH]):
        assert (await put(gateway, "team", grants, narrow)).status in (200, 201)


async def test_a_role_that_never_stays_as_it_was_looked_at_is_not_changed(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow, keys = await gateway.mint(AUTH, ADMIN), gateway.context.key_store
    changing, version = keys.put_role, 0

    async def change(role: Role, *args: Any, **options: Any) -> Any:
        nonlocal version
        version += 1
        await changing(Role(name="other", description=str(version)))
        return await changing(role, *args, **options)

    monkeypatch.setattr(keys, "put_role", change)
    (await put(gateway, "team", [AUTH], narrow)).problem(409, "conflict")
    assert version == issuer._MOST_ATTEMPTS
