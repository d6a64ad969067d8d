"""What widens a key needs what minting it needs, and nobody reviews findings about themselves."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from gateway_client import Answer, key_id
from gateways import Gateway, Start
from test_findings import deny, found

ADMIN = {"actions": ["keys.admin", "usage.read"], "categories": ["**"]}
AUTH = {"actions": ["stream", "pull"], "categories": ["auth"]}
EVERYTHING = {"actions": ["stream", "pull"], "categories": ["**"]}
NARROW = [AUTH, ADMIN]
OFFICE = ("203.0.113.4", "203.0.113.200", "198.51.100.1")


async def act(gateway: Gateway, key: str, what: str, by: str, **body: Any) -> Answer:
    return await gateway.post(f"/v1/keys/{key_id(key)}/{what}", key=by, json=body)


async def put(gateway: Gateway, name: str, *grants: dict[str, Any], by: str) -> Answer:
    body = {"grants": list(grants)}
    return await gateway.request("PUT", f"/v1/roles/{name}", key=by, json=body)


async def state(gateway: Gateway, key: str) -> str:
    answer = await gateway.get(f"/v1/keys/{key_id(key)}", key=gateway.admin)
    found: str = answer.json()["state"]
    return found


async def test_a_broader_key_is_suspended_by_any_administrator_and_resumed_by_none_of_less(
    gateway: Gateway,
) -> None:
    narrow, broad = await gateway.mint(*NARROW), await gateway.mint(EVERYTHING)
    assert (await act(gateway, broad, "suspend", narrow, reason="r")).status == 200
    (await act(gateway, broad, "resume", narrow)).problem(403, "exceeds_own_grants")
    assert await state(gateway, broad) == "suspended"
    assert (await act(gateway, broad, "resume", gateway.admin)).status == 200
    assert (await act(gateway, broad, "revoke", narrow)).status == 200


async def test_a_faster_key_is_not_resumed_by_a_slower_one(gateway: Gateway) -> None:
    slow = await gateway.mint(*NARROW, limits={"requests_per_second": 50})
    fast = await gateway.mint(AUTH)
    assert (await act(gateway, fast, "suspend", slow)).status == 200
    (await act(gateway, fast, "resume", slow)).problem(403, "exceeds_own_limits")


async def test_what_an_administrator_could_have_made_is_resumed(gateway: Gateway) -> None:
    narrow, same = await gateway.mint(*NARROW), await gateway.mint(AUTH)
    assert (await act(gateway, same, "suspend", narrow)).status == 200
    assert (await act(gateway, same, "resume", narrow)).status == 200


@pytest.mark.parametrize("grants", [[], [AUTH]], ids=["with nothing", "with less"])
async def test_a_broader_role_is_neither_overwritten_nor_deleted(
    gateway: Gateway, grants: list[dict[str, Any]]
) -> None:
    narrow = await gateway.mint(*NARROW)
    assert (await put(gateway, "broad", EVERYTHING, by=gateway.admin)).status == 201
    (await put(gateway, "broad", *grants, by=narrow)).problem(403, "exceeds_own_grants")
    deleted = await gateway.request("DELETE", "/v1/roles/broad", key=narrow)
    deleted.problem(403, "exceeds_own_grants")
    shown = await gateway.get("/v1/roles/broad", key=gateway.admin)
    assert shown.json()["grants"][0]["categories"] == ["**"]


async def test_nobody_reviews_a_finding_about_themselves(gateway: Gateway) -> None:
    narrow = await gateway.mint(*NARROW)
    for _ in range(5):
        body = {"name": "n", "purpose": "p", "owner": "o", "grants": [EVERYTHING]}
        (await gateway.post("/v1/keys", key=narrow, json=body)).problem(403, "exceeds_own_grants")
    [finding] = await found(gateway, "denials")
    path = f"/v1/findings/{finding['id']}/expected"
    (await gateway.post(path, key=narrow, json={"reason": "r"})).problem(403, "own_case")
    (await gateway.request("DELETE", path, key=narrow)).problem(403, "own_case")
    # Nor with a key that they make for it, nor with the one that takes over.
    puppet = await gateway.post(
        "/v1/keys", key=narrow, json={"name": "n", "purpose": "p", "owner": "o", "grants": NARROW}
    )
    (await gateway.post(path, key=puppet.json()["key"])).problem(403, "own_case")
    rotated = await act(gateway, narrow, "rotate", narrow)
    (await gateway.post(path, key=rotated.json()["key"])).problem(403, "own_case")
    assert (await gateway.post(path, key=gateway.admin)).status == 200


async def test_findings_of_what_an_administrator_made_are_for_their_maker(
    gateway: Gateway,
) -> None:
    narrow = await gateway.mint(*NARROW)
    body = {"name": "n", "purpose": "p", "owner": "o", "grants": [AUTH]}
    made: str = (await gateway.post("/v1/keys", key=narrow, json=body)).json()["key"]
    await deny(gateway, made, 5)
    [finding] = await found(gateway, "denials")
    path = f"/v1/findings/{finding['id']}/expected"
    (await gateway.post(path, key=narrow)).problem(403, "own_case")
    assert (await gateway.post(path, key=gateway.admin)).status == 200


async def test_a_finding_about_a_broader_key_is_silenced_by_who_has_as_much(
    gateway: Gateway,
) -> None:
    narrow, broad = await gateway.mint(*NARROW), await gateway.mint(EVERYTHING)
    await deny(gateway, broad, 5)
    [finding] = await found(gateway, "denials")
    path = f"/v1/findings/{finding['id']}/expected"
    (await gateway.post(path, key=narrow)).problem(403, "exceeds_own_grants")
    assert (await gateway.post(path, key=gateway.admin)).status == 200
    # To take it back narrows nothing for anybody.
    assert (await gateway.request("DELETE", path, key=narrow)).status == 200


async def test_a_finding_about_an_address_is_not_silenced_by_who_has_been_there(
    start: Start,
) -> None:
    gateway = await start(server={"trusted_proxies": (ip_network("127.0.0.0/8"),)})
    here, near, away = ({"X-Forwarded-For": one} for one in OFFICE)
    narrow, other = await gateway.mint(*NARROW), await gateway.mint(*NARROW)
    wrong = narrow[:18] + "x" * 49
    for _ in range(5):
        assert (await gateway.get("/v1/events", key=wrong, headers=here)).status == 401
    [finding] = await found(gateway, "denials")
    assert (finding["key"], finding["address"]) == (None, OFFICE[0])
    path = f"/v1/findings/{finding['id']}/expected"
    for headers in (here, near, away):
        # Once it has been there, it does not help to go away.
        refused = await gateway.post(path, key=narrow, headers=headers)
        refused.problem(403, "own_case")
    refused = await gateway.request("DELETE", path, key=other, headers=near)
    refused.problem(403, "own_case")
    assert (await gateway.post(path, key=gateway.admin, headers=here)).status == 200


async def test_a_finding_about_an_address_is_reviewed_by_who_comes_from_another(
    start: Start,
) -> None:
    gateway = await start(server={"trusted_proxies": (ip_network("127.0.0.0/8"),)})
    narrow = await gateway.mint(*NARROW)
    for _ in range(5):
        await gateway.get("/v1/events", key="junk", headers={"X-Forwarded-For": "2001:db8:1::7"})
    [finding] = await found(gateway, "denials")
    path = f"/v1/findings/{finding['id']}/expected"
    elsewhere = {"X-Forwarded-For": "2001:db8:2::7"}
    assert (await gateway.post(path, key=narrow, headers=elsewhere)).status == 200
