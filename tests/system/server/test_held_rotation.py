"""Rotations that wait until the new secret is where it is used."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_client import event, key_id
from gateways import Gateway, ShiftedClock, Start

from gateway.oversight import key_events
from tests.support.machine_time import becomes

GRANT = {"actions": ["stream", "pull"], "categories": ["**"]}


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_events, "_DRAINING_SECONDS", 0.05)
    monkeypatch.setattr(key_events, "_UNTOLD_SECONDS", 0.05)


async def held(gateway: Gateway, key: str, **body: Any) -> Any:
    path = f"/v1/keys/{key_id(key)}/rotate"
    answer = await gateway.post(path, key=gateway.admin, json={"hold": True, **body})
    assert answer.status == 201, answer.body
    return answer.json()


async def shown(gateway: Gateway, kid: str) -> Any:
    return (await gateway.get(f"/v1/keys/{kid}", key=gateway.admin)).json()


async def told(gateway: Gateway, action: str, key: str) -> list[Any]:
    page = await gateway.pull(gateway.admin, action=action, category="gateway.keys")
    return [one for one in page["events"] if one["data"]["key"] == key_id(key)]


async def test_the_old_key_works_on_until_the_successor_is_confirmed(gateway: Gateway) -> None:
    old = await gateway.mint(GRANT)
    new = await held(gateway, old, overlap="2h")
    before = await shown(gateway, key_id(old))
    assert (before["state"], before["pending_successor"]) == ("active", new["id"])
    assert "drains_until" not in before
    assert "successor" not in before
    assert new["confirm_by"] > new["created_at"]
    again = await gateway.post(f"/v1/keys/{key_id(old)}/rotate", key=gateway.admin, json={})
    again.problem(409, "rotation_pending")
    twice = await gateway.post(f"/v1/keys/{new['id']}/rotate", key=gateway.admin, json={})
    twice.problem(409, "rotation_pending")
    answer = await gateway.post(f"/v1/keys/{new['id']}/confirm", key=gateway.admin)
    assert (answer.status, "confirm_by" in answer.json()) == (200, False)
    after = await shown(gateway, key_id(old))
    assert (after["state"], after["successor"]) == ("draining", new["id"])
    assert "pending_successor" not in after
    [record] = await becomes(lambda: told(gateway, "key.rotated", old), bool)
    assert record["data"]["successor"] == new["id"]


async def test_the_first_use_of_the_successor_confirms_it(gateway: Gateway) -> None:
    old = await gateway.mint(GRANT)
    new = await held(gateway, old)
    assert (await gateway.get("/v1/me", key=old)).status == 200
    assert (await shown(gateway, key_id(old)))["state"] == "active"
    assert (await gateway.get("/v1/me", key=new["key"])).status == 200

    async def state() -> str:
        return str((await shown(gateway, key_id(old)))["state"])

    await becomes(state, "draining".__eq__)
    assert "confirm_by" not in await shown(gateway, new["id"])


async def test_a_successor_that_nobody_confirms_is_revoked_after_an_hour_and_found(
    start: Start, shifted: ShiftedClock
) -> None:
    gateway = await start(shifted)
    old = await gateway.mint(GRANT, expires_in="30d")
    new = await held(gateway, old)
    shifted.shift = 3601.0

    async def successor() -> str:
        return str((await shown(gateway, new["id"]))["state"])

    await becomes(successor, "revoked".__eq__)
    before = await shown(gateway, key_id(old))
    assert (before["state"], before.get("pending_successor")) == ("active", None)
    assert (await gateway.get("/v1/me", key=old)).status == 200
    assert (await gateway.get("/v1/me", key=new["key"])).status == 401
    assert (await held(gateway, old))["id"] != new["id"]

    async def findings() -> list[Any]:
        answer = await gateway.get("/v1/findings?signal=rotation_failed", key=gateway.admin)
        return list(answer.json()["findings"])

    [finding] = await becomes(findings, bool)
    assert finding["key"] == key_id(old)
    assert finding["data"]["successor"] == new["id"]
    assert finding["data"]["reason"] == "not confirmed in time"
    [record] = await becomes(lambda: told(gateway, "key.rotation_failed", old), bool)
    assert record["actor"]["id"] == "gateway"


async def test_a_successor_that_is_revoked_before_is_a_failed_rotation(gateway: Gateway) -> None:
    old = await gateway.mint(GRANT)
    new = await held(gateway, old)
    body = {"reason": "the disk is full"}
    await gateway.post(f"/v1/keys/{new['id']}/revoke", key=gateway.admin, json=body)
    assert "pending_successor" not in await shown(gateway, key_id(old))

    async def findings() -> list[Any]:
        answer = await gateway.get("/v1/findings?signal=rotation_failed", key=gateway.admin)
        return [one for one in answer.json()["findings"] if one["key"] == key_id(old)]

    [finding] = await becomes(findings, bool)
    assert finding["data"]["reason"] == "the disk is full"


async def test_that_a_key_is_to_be_rotated_is_recorded_once(
    start: Start, shifted: ShiftedClock
) -> None:
    gateway = await start(shifted)
    key = await gateway.mint(GRANT, expires_in="60d", rotate={"every": "30d"})
    late = await gateway.mint(GRANT, expires_in="60d")
    shifted.shift = 31 * 86_400.0
    path = f"/v1/keys/{key_id(late)}"
    await gateway.request(
        "PATCH", path, key=gateway.admin, json={"rotate": {"every": "1d"}},
        headers={"If-Match": "*"},
    )  # fmt: skip
    for one in (key, late):
        [record] = await becomes(
            lambda one=one: told(gateway, "key.rotation_due", one),  # type: ignore[misc]
            bool,
        )
        assert record["data"]["rotate_by"] == (await shown(gateway, key_id(one)))["rotate_by"]
    await gateway.post(f"{path}/suspend", key=gateway.admin, json={})
    await gateway.send(event(id="later"))
    await becomes(lambda: told(gateway, "key.suspended", late), bool)
    assert len(await told(gateway, "key.rotation_due", late)) == 1
