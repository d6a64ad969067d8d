"""Who made which key, what ends with its maker, and what becomes of deleted roles."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_client import Answer, key_id
from gateways import Gateway
from open_streams import open_stream

ADMIN = {"actions": ["keys.admin"], "categories": ["**"]}
AUTH = {"actions": ["stream", "pull"], "categories": ["auth"]}
EVERYTHING = {"actions": ["stream", "pull"], "categories": ["**"]}


async def make(gateway: Gateway, by: str, *grants: dict[str, Any], **members: Any) -> Answer:
    body = {"name": "n", "purpose": "p", "owner": "o", "grants": list(grants), **members}
    return await gateway.post("/v1/keys", key=by, json=body)


async def made(gateway: Gateway, by: str, *grants: dict[str, Any], **members: Any) -> str:
    answer = await make(gateway, by, *grants, **members)
    assert answer.status == 201, answer.body
    key: str = answer.json()["key"]
    return key


async def act(gateway: Gateway, key: str, what: str, by: str = "", **body: Any) -> Answer:
    path = f"/v1/keys/{key_id(key)}/{what}"
    return await gateway.post(path, key=by or gateway.admin, json=body)


async def shown(gateway: Gateway, key: str) -> dict[str, Any]:
    answer = await gateway.get(f"/v1/keys/{key_id(key)}", key=gateway.admin)
    found: dict[str, Any] = answer.json()
    return found


async def test_every_key_says_who_made_it(gateway: Gateway) -> None:
    admin = await made(gateway, gateway.admin, ADMIN, AUTH)
    other = await made(gateway, admin, AUTH)
    assert (await shown(gateway, gateway.admin))["created_by"] == "gateway"
    assert (await shown(gateway, admin))["created_by"] == key_id(gateway.admin)
    assert (await shown(gateway, other))["created_by"] == key_id(admin)
    listed = (await gateway.get("/v1/keys", key=gateway.admin)).json()["keys"]
    assert all(one["created_by"] for one in listed)
    rotated = (await act(gateway, other, "rotate")).json()
    assert rotated["created_by"] == key_id(gateway.admin)


async def test_what_can_mint_does_not_outlive_its_maker(gateway: Gateway) -> None:
    brief = await made(gateway, gateway.admin, ADMIN, AUTH, expires_in="1h")
    end = (await shown(gateway, brief))["expires_at"]
    refused = (await make(gateway, brief, ADMIN, expires_in="90d")).problem(400, "outlives_maker")
    assert end[:19] in refused["detail"]
    (await make(gateway, brief, roles=["key-admin"], expires_in="90d")).problem(
        403, "exceeds_own_grants"
    )
    # Where none was asked for it is cut, which the answer says.
    cut = (await make(gateway, brief, ADMIN)).json()
    assert (cut["expires_at"], cut["expires_with"]) == (end, key_id(brief))
    assert (await make(gateway, brief, ADMIN, expires_in="30m")).status == 201
    # Other keys may live on.
    other = (await make(gateway, brief, AUTH, expires_in="30d")).json()
    assert other["expires_at"] > end
    assert "expires_with" not in other


async def test_through_a_role_it_does_not_outlive_its_maker_either(gateway: Gateway) -> None:
    body = {"grants": [ADMIN]}
    await gateway.request("PUT", "/v1/roles/minting", key=gateway.admin, json=body)
    brief = await made(gateway, gateway.admin, ADMIN, expires_in="1h")
    answer = await make(gateway, brief, roles=["minting"], expires_in="2h")
    answer.problem(400, "outlives_maker")


async def test_rotating_oneself_prolongs_nothing(gateway: Gateway) -> None:
    brief = await made(gateway, gateway.admin, ADMIN, expires_in="1h")
    end = (await shown(gateway, brief))["expires_at"]
    rotated = (await act(gateway, brief, "rotate", brief)).json()
    assert (rotated["expires_at"], rotated["expires_with"]) == (end, key_id(brief))
    assert rotated["created_by"] == key_id(brief)


@pytest.mark.parametrize("end", ["revoke", "suspend"])
async def test_a_minter_mints_no_more_when_its_maker_has_ended(gateway: Gateway, end: str) -> None:
    first = await made(gateway, gateway.admin, ADMIN, AUTH)
    second = await made(gateway, first, ADMIN, AUTH)
    third = await made(gateway, second, ADMIN, AUTH)
    reader = await made(gateway, second, AUTH)
    paused = await made(gateway, gateway.admin, AUTH)
    assert (await act(gateway, paused, "suspend", third)).status == 200
    assert (await act(gateway, first, end)).status == 200
    for minter in (second, third):
        refused = (await make(gateway, minter, AUTH)).problem(403, "maker_ended")
        assert refused["maker"] == key_id(first)
        (await act(gateway, minter, "rotate", minter)).problem(403, "maker_ended")
        (await act(gateway, paused, "resume", minter)).problem(403, "maker_ended")
        put = await gateway.request("PUT", "/v1/roles/r", key=minter, json={"grants": [AUTH]})
        put.problem(403, "maker_ended")
        assert (await gateway.get("/v1/keys", key=minter)).status == 200, "it may look"
    await gateway.pull(reader)
    # What narrows stays allowed.
    assert (await act(gateway, reader, "revoke", third)).status == 200
    if end == "suspend":
        assert (await act(gateway, first, "resume")).status == 200
        assert (await make(gateway, third, AUTH)).status == 201


async def test_a_rotated_maker_lends_its_right_on_and_a_revoked_one_does_not(
    gateway: Gateway,
) -> None:
    admin = await made(gateway, gateway.admin, ADMIN, AUTH)
    rotated: str = (await act(gateway, admin, "rotate", admin, overlap="0s")).json()["key"]
    assert (await make(gateway, rotated, AUTH)).status == 201
    assert (await act(gateway, admin, "revoke")).status == 200
    (await make(gateway, rotated, AUTH)).problem(403, "maker_ended")


async def test_a_plain_revoke_names_what_lives_on_and_the_other_ends_it(gateway: Gateway) -> None:
    admin = await made(gateway, gateway.admin, ADMIN, AUTH)
    second = await made(gateway, admin, ADMIN, AUTH)
    reader = await made(gateway, second, AUTH)
    bystander = await made(gateway, gateway.admin, AUTH)
    streams = [await open_stream(gateway, "sse", key) for key in (reader, bystander)]
    plain = (await act(gateway, admin, "revoke", reason="left")).json()
    assert plain["living_descendants"] == [key_id(second), key_id(reader)]
    every = await act(gateway, admin, "revoke", reason="left", with_descendants=True)
    assert every.json()["revoked_descendants"] == [key_id(second), key_id(reader)]
    assert [len(gateway.context.hub.streams_of(key_id(one))) for one in (reader, bystander)] == [
        0, 1,
    ]  # fmt: skip
    for key in (second, reader):
        assert (await shown(gateway, key))["revoked_reason"] == "left"
    again = (await act(gateway, admin, "revoke", with_descendants=True)).json()
    assert again["revoked_descendants"] == []
    for stream in streams:
        stream.close()


@pytest.mark.parametrize("value", ["yes", 1, None])
async def test_with_descendants_is_true_or_false(gateway: Gateway, value: Any) -> None:
    key = await gateway.reader_key()
    answer = await act(gateway, key, "revoke", with_descendants=value)
    answer.problem(400, "invalid_request")
    assert (await shown(gateway, key))["state"] == "active"


async def test_a_role_that_is_made_again_gives_nothing_back(gateway: Gateway) -> None:
    async def put(*grants: dict[str, Any]) -> Answer:
        body = {"grants": list(grants)}
        return await gateway.request("PUT", "/v1/roles/team", key=gateway.admin, json=body)

    assert (await put(AUTH)).status == 201
    key = await made(gateway, gateway.admin, roles=["team"])
    stream = await open_stream(gateway, "sse", key)
    deleted = await gateway.request("DELETE", "/v1/roles/team", key=gateway.admin)
    assert (deleted.status, deleted.json()) == (200, {"name": "team", "keys": [key_id(key)]})
    assert len(gateway.context.hub.streams_of(key_id(key))) == 0
    stream.close()
    assert (await put(EVERYTHING)).status == 201
    (await gateway.get("/v1/events", key=key)).problem(403, "action_not_granted")
    assert "roles" not in await shown(gateway, key)
    assert (await gateway.request("DELETE", "/v1/roles/team", key=gateway.admin)).status == 204


async def test_no_key_is_raised_by_a_role_to_make_keys_for_longer_than_who_raises_it(
    gateway: Gateway,
) -> None:
    async def put(by: str, *grants: dict[str, Any]) -> Answer:
        return await gateway.request("PUT", "/v1/roles/team", key=by, json={"grants": grants})

    brief = await made(gateway, gateway.admin, ADMIN, AUTH, expires_in="1h")
    assert (await put(brief, AUTH)).status == 201
    long = await made(gateway, brief, roles=["team"], expires_in="30d")
    refused = (await put(brief, AUTH, ADMIN)).problem(400, "outlives_maker")
    assert refused["key"] == key_id(long)
    (await make(gateway, long, AUTH)).problem(403, "action_not_granted")
    # A shorter-lived key may be, and so may any by whoever lives as long.
    await act(gateway, long, "revoke")
    short = await made(gateway, brief, roles=["team"], expires_in="30m")
    assert (await put(brief, AUTH, ADMIN)).status == 200
    assert (await make(gateway, short, AUTH)).status == 201


async def test_a_key_that_makes_keys_already_does_not_hold_up_changes_of_its_role(
    gateway: Gateway,
) -> None:
    brief = await made(gateway, gateway.admin, ADMIN, AUTH, expires_in="1h")
    body = {"grants": [ADMIN]}
    admin = gateway.admin
    assert (await gateway.request("PUT", "/v1/roles/team", key=admin, json=body)).status == 201
    await made(gateway, admin, roles=["team"])
    body = {"grants": [ADMIN, AUTH]}
    assert (await gateway.request("PUT", "/v1/roles/team", key=brief, json=body)).status == 200
