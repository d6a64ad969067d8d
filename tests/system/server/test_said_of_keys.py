"""What explanations and documents say of a key beyond its grants as they are written."""

from __future__ import annotations

from typing import Any

import msgspec
from gateway_client import key_id
from gateways import Gateway

from gateway.access.keys.key import Key
from gateway.access.keys.stored_grant import read_grant
from gateway.access.keys.unreadable import UnreadableRole

ADMIN = {"actions": ["keys.admin"], "categories": ["**"]}
AUTH = {"actions": ["stream", "pull"], "categories": ["auth"]}
BODY = {"name": "n", "purpose": "p", "owner": "o"}


async def explain(gateway: Gateway, key: str, **asked: Any) -> dict[str, Any]:
    body = {"key": key_id(key), "action": "keys.admin", **asked}
    found: dict[str, Any] = (
        await gateway.post("/v1/authz/explain", key=gateway.admin, json=body)
    ).json()
    return found


async def document(gateway: Gateway, key: str, kind: str) -> Any:
    headers = {"Accept": kind}
    path = f"/v1/keys/{key_id(key)}/document"
    answer = await gateway.get(path, key=gateway.admin, headers=headers)
    assert answer.status == 200, answer.body
    return answer.json() if kind == "application/json" else answer.body.decode()


async def test_that_the_maker_of_a_key_has_ended_is_said(gateway: Gateway) -> None:
    maker = await gateway.mint(ADMIN, AUTH)
    made: str = (
        await gateway.post("/v1/keys", key=maker, json={**BODY, "grants": [ADMIN, AUTH]})
    ).json()["key"]
    assert "maker_ended" not in await explain(gateway, made)
    assert "maker_ended" not in await document(gateway, made, "application/json")
    await gateway.post(f"/v1/keys/{key_id(maker)}/suspend", key=gateway.admin, json={})
    ended = {"maker": key_id(maker), "how": "suspended"}
    found = await explain(gateway, made)
    assert (found["decision"], found["maker_ended"]) == ("allow", ended)
    assert "maker_ended" not in await explain(gateway, made, action="pull")
    facts = await document(gateway, made, "application/json")
    assert facts["maker_ended"] == ended
    said = f"the key {key_id(maker)}, which this key was made with, is suspended"
    assert any(said in one for one in facts["cannot"])
    assert said in await document(gateway, made, "text/markdown")


async def test_that_a_grant_counts_otherwise_than_it_is_written_is_said(gateway: Gateway) -> None:
    key = await gateway.mint(AUTH)
    raw = {**AUTH, "id": "g1", "effect": "deny", "tenants": []}
    grant = read_grant(msgspec.json.encode(raw))

    def older(found: Key) -> Key:
        return msgspec.structs.replace(found, grants=(*found.grants, grant))

    await gateway.context.key_store.change(key_id(key), older)
    await gateway.context.enforcement.poll()
    found = await explain(gateway, key, action="pull", tenant="acme", category="auth", severity=1)
    assert found["decision"] == "deny"
    [problem] = found["nearest"]["problems"]
    assert problem["path"] == "tenants"
    assert problem["means"].startswith("it denies auth.** of every tenant")
    facts = await document(gateway, key, "application/json")
    assert [one.get("problems", []) for one in facts["grants"]] == [[], [problem]]
    text = await document(gateway, key, "text/markdown")
    assert "Grants that count otherwise than they are written" in text
    assert "of every tenant and resource, from anywhere and at any time" in text


async def test_a_role_that_cannot_be_read_is_handed_on_by_nobody(
    gateway: Gateway, monkeypatch: Any
) -> None:
    """Another version of the gateway may read it, and it may be broader than its giver."""
    narrow = await gateway.mint(ADMIN, AUTH)
    role = {"grants": [{"actions": ["pull"], "categories": ["**"]}]}
    put = await gateway.request("PUT", "/v1/roles/broad", key=gateway.admin, json=role)
    assert put.status == 201
    keys = gateway.context.key_store
    known = await keys.roles()
    unreadable = UnreadableRole(name="broad", grants=(), why="of a newer version")

    async def roles() -> Any:
        return {**known, "broad": unreadable}

    monkeypatch.setattr(keys, "roles", roles)
    body = {**BODY, "roles": ["broad"]}
    (await gateway.post("/v1/keys", key=narrow, json=body)).problem(409, "role_unreadable")
