"""Administration of keys and roles over HTTP, and that nobody passes on more than they have."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_client import Answer, event, key_id
from gateways import Gateway, ShiftedClock, Start

from gateway.access.keys import lifecycle

DAY = 86400.0
EVERYTHING = {"actions": ["stream", "pull"], "categories": ["**"]}
AUTH = {"actions": ["stream", "pull"], "categories": ["auth.**"]}
ADMIN = {"actions": ["keys.admin"], "categories": ["**"]}


@pytest.fixture
def gateway(gateway_of_module: Gateway) -> Gateway:
    """One for all tests in here."""
    return gateway_of_module


async def admin(
    gateway: Gateway, method: str, path: str, body: Any = None, key: str = ""
) -> Answer:
    return await gateway.request(method, path, key=key or gateway.admin, json=body)


async def change(gateway: Gateway, key: str, what: str, body: Any = None, by: str = "") -> Answer:
    return await admin(gateway, "POST", f"/v1/keys/{key_id(key)}/{what}", body, by)


async def shown(gateway: Gateway, key: str) -> dict[str, Any]:
    answer = await admin(gateway, "GET", f"/v1/keys/{key_id(key)}")
    assert answer.status == 200, answer.body
    return answer.json()  # type: ignore[no-any-return]


async def put_role(gateway: Gateway, name: str, *grants: dict[str, Any], by: str = "") -> Answer:
    return await admin(gateway, "PUT", f"/v1/roles/{name}", {"grants": list(grants)}, by)


async def works(gateway: Gateway, key: str) -> bool:
    return (await gateway.get("/v1/events", key=key)).status == 200


# Rotation


async def test_a_rotated_key_and_its_successor_both_work_until_the_overlap_ends(
    start: Start, shifted: ShiftedClock
) -> None:
    gateway = await start(clock=shifted)
    old = await gateway.mint(EVERYTHING, name="siem", owner="ops", expires_in="30d")
    shifted.shift = 5 * DAY
    answer = await change(gateway, old, "rotate", {"overlap": "2h"})
    assert answer.status == 201
    made = answer.json()
    assert answer.headers["Location"] == f"/v1/keys/{made['id']}"
    assert (made["name"], made["owner"], made["grants"]) == ("siem", "ops", [EVERYTHING])
    assert made["predecessor"] == key_id(old)
    before = await shown(gateway, old)
    assert (before["state"], before["successor"]) == ("draining", made["id"])
    assert await works(gateway, old)
    assert await works(gateway, made["key"])
    shifted.shift = 5 * DAY + 7199
    assert await works(gateway, old)
    shifted.shift = 5 * DAY + 7201
    (await gateway.get("/v1/events", key=old)).problem(401, "key_expired")
    assert await works(gateway, made["key"])
    shifted.shift = 36 * DAY
    (await gateway.get("/v1/events", key=made["key"])).problem(401, "key_expired")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (None, 201), ({}, 201), ({"overlap": "0s"}, 201), ({"overlap": "7d"}, 201),
        ({"overlap": "7d1s"}, 400), ({"overlap": "8d"}, 400), ({"overlap": "1 hour"}, 400),
        ({"overlap": 3600}, 400), ({"overlap": None}, 400), ({"Overlap": "1h"}, 400),
        (["1h"], 400), ("1h", 400),
    ],
)  # fmt: skip
async def test_an_overlap_is_a_duration_of_at_most_a_week(
    gateway: Gateway, body: Any, status: int
) -> None:
    key = await gateway.mint(EVERYTHING)
    answer = await change(gateway, key, "rotate", body)
    assert answer.status == status, answer.body
    if status == 400:
        assert (await shown(gateway, key))["state"] == "active"


@pytest.mark.parametrize(("what", "status"), [("rotate", 201), ("resume", 200)])
async def test_what_the_gateway_changes_of_a_key_meanwhile_refuses_no_change_of_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, what: str, status: int
) -> None:
    key = await gateway.mint(EVERYTHING)
    if what == "resume":
        await change(gateway, key, "suspend")
    store = gateway.context.key_store
    stored = store.change
    now = gateway.context.clock.now()

    async def comes_second(key_id: str, changing: Any, **more: Any) -> Any:
        monkeypatch.setattr(store, "change", stored)
        throttled = await stored(key_id, lambda one: lifecycle.throttle(one, now, now + 60))
        assert throttled is not None
        return await stored(key_id, changing, **more)

    monkeypatch.setattr(store, "change", comes_second)
    answer = await change(gateway, key, what)
    assert answer.status == status, answer.body
    assert (await shown(gateway, key))["throttled_until"]


async def test_no_overlap_ends_the_old_key_at_once(gateway: Gateway) -> None:
    key = await gateway.mint(EVERYTHING)
    new = (await change(gateway, key, "rotate", {"overlap": "0s"})).json()["key"]
    (await gateway.get("/v1/events", key=key)).problem(401, "key_expired")
    assert await works(gateway, new)


async def test_a_successor_never_lives_longer_than_the_settings_allow(start: Start) -> None:
    """The setting was lowered since the key was made."""
    gateway = await start(keys={"default_life": int(DAY), "max_life": int(90 * DAY)})
    key = await gateway.mint(EVERYTHING, expires_in="60d")
    object.__setattr__(gateway.context.settings.keys, "max_life", int(10 * DAY))
    made = (await change(gateway, key, "rotate")).json()
    made_at, ends_at = made["created_at"], made["expires_at"]
    days = (int(ends_at[8:10]) - int(made_at[8:10])) % 30
    assert days in (9, 10, 11), (made_at, ends_at)


async def test_only_an_active_key_is_rotated_and_only_once(gateway: Gateway) -> None:
    key = await gateway.mint(EVERYTHING)
    assert (await change(gateway, key, "rotate")).status == 201
    (await change(gateway, key, "rotate")).problem(409, "not_active")
    for what in ("suspend", "revoke"):
        other = await gateway.mint(EVERYTHING)
        await change(gateway, other, what)
        (await change(gateway, other, "rotate")).problem(409, "not_active")


# Suspension


async def test_a_suspended_key_does_nothing_until_it_is_resumed(gateway: Gateway) -> None:
    key = await gateway.mint(EVERYTHING)
    assert await works(gateway, key)
    answer = await change(gateway, key, "suspend", {"reason": "odd traffic"})
    assert (answer.json()["state"], answer.json()["suspended_reason"]) == (
        "suspended", "odd traffic",
    )  # fmt: skip
    (await gateway.get("/v1/events", key=key)).problem(401, "key_suspended")
    (await gateway.post("/v1/tickets", key=key, json={})).problem(401, "key_suspended")
    assert (await change(gateway, key, "resume")).json()["state"] == "active"
    assert await works(gateway, key)
    assert "suspended_at" not in await shown(gateway, key)
    (await change(gateway, key, "resume")).problem(409, "not_suspended")


async def test_what_has_ended_stays_ended(gateway: Gateway) -> None:
    key = await gateway.mint(EVERYTHING)
    await change(gateway, key, "revoke", {"reason": "left"})
    (await change(gateway, key, "suspend")).problem(409, "key_ended")
    (await change(gateway, key, "resume")).problem(409, "not_suspended")
    again = await change(gateway, key, "revoke", {"reason": "other"})
    assert (again.status, again.json()["revoked_reason"]) == (200, "left")


@pytest.mark.parametrize("what", ["revoke", "suspend", "resume", "rotate"])
@pytest.mark.parametrize(
    "body", [[], "x", 7, {"reasn": "x"}, {"reason": 7}, {"reason": "x" * 257}, {"reason": None}]
)
async def test_a_malformed_body_changes_nothing(gateway: Gateway, what: str, body: Any) -> None:
    key = await gateway.mint(EVERYTHING)
    assert (await change(gateway, key, what, body)).status == 400
    assert (await shown(gateway, key))["state"] == "active"


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("GET", ""), ("GET", "/document"), ("POST", "/revoke"), ("POST", "/suspend"),
        ("POST", "/resume"), ("POST", "/rotate"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["000000000000", "x", "0" * 13, "%00", "0000000000.0"])
async def test_a_key_that_is_not_there_is_404(
    gateway: Gateway, method: str, what: str, name: str
) -> None:
    answer = await admin(gateway, method, f"/v1/keys/{name}{what}")
    answer.problem(404, "unknown_key")


# Making keys


@pytest.mark.parametrize(
    "change",
    [
        {"nme": "x"}, {"id": "000000000000"}, {"key": "x"}, {"digest": "x"}, {"state": "active"},
        {"revoked_at": 0}, {"predecessor": "0" * 12}, {"drains_until": 0}, {"revision": 1},
        {"purpose": ""}, {"purpose": None}, {"name": "a\nb"}, {"owner": 7}, {"owner": " "},
        {"owner": None}, {"name": "x" * 257},
        {"expires_in": "30d", "expires_at": "2099-01-01T00:00:00Z"}, {"expires_in": "91d"},
        {"expires_in": "0s"}, {"expires_at": "2001-01-01T00:00:00Z"}, {"expires_in": 30},
        {"grants": {}}, {"grants": [EVERYTHING] * 65}, {"roles": "auditor"}, {"roles": ["Auditor"]},
        {"roles": ["nobody"]}, {"roles": [None]},
    ],
    ids=str,
)  # fmt: skip
async def test_what_makes_no_sense_makes_no_key(gateway: Gateway, change: dict[str, Any]) -> None:
    before = len((await admin(gateway, "GET", "/v1/keys")).json()["keys"])
    body = {"name": "n", "purpose": "p", "owner": "o", "grants": [AUTH], **change}
    answer = await admin(gateway, "POST", "/v1/keys", body)
    assert answer.status == 400, answer.body
    assert len((await admin(gateway, "GET", "/v1/keys")).json()["keys"]) == before


async def test_a_role_that_is_not_there_is_named(gateway: Gateway) -> None:
    body = {"name": "n", "purpose": "p", "owner": "o", "roles": ["auditor", "audiotr"]}
    problem = (await admin(gateway, "POST", "/v1/keys", body)).problem(400, "unknown_role")
    assert "'audiotr'" in problem["detail"]


async def test_a_secret_is_shown_once_and_nowhere_else(gateway: Gateway) -> None:
    key = await gateway.mint(EVERYTHING)
    new = (await change(gateway, key, "rotate")).json()["key"]
    for path in ("/v1/keys", f"/v1/keys/{key_id(key)}", f"/v1/keys/{key_id(new)}",
                 f"/v1/keys/{key_id(new)}/document"):  # fmt: skip
        body = (await admin(gateway, "GET", path)).body
        for secret in (key, new):
            assert secret[18:].encode() not in body
            assert b"digest" not in body


# Roles


async def test_a_role_is_made_replaced_shown_and_deleted(gateway: Gateway) -> None:
    assert (await put_role(gateway, "team", AUTH)).status == 201
    answer = await put_role(gateway, "team", EVERYTHING)
    assert answer.status == 200
    expected = {"name": "team", "description": "", "grants": [EVERYTHING], "builtin": False}
    assert answer.json() == expected
    assert (await admin(gateway, "GET", "/v1/roles/team")).json() == expected
    names = {role["name"] for role in (await admin(gateway, "GET", "/v1/roles")).json()["roles"]}
    assert {"team", "auditor", "producer"} <= names
    assert (await admin(gateway, "DELETE", "/v1/roles/team")).status == 204
    for method in ("GET", "DELETE"):
        (await admin(gateway, method, "/v1/roles/team")).problem(404, "unknown_role")


async def test_a_change_to_a_role_changes_what_its_keys_see(gateway: Gateway) -> None:
    await gateway.send(event(id="1"), event(id="2", category="billing"))
    await put_role(gateway, "team", AUTH)
    key = await gateway.mint(roles=["team"])
    assert [one["id"] for one in (await gateway.pull(key))["events"]] == ["1"]
    await put_role(gateway, "team", EVERYTHING)
    assert [one["id"] for one in (await gateway.pull(key))["events"]] == ["1", "2"]
    await admin(gateway, "DELETE", "/v1/roles/team")
    (await gateway.get("/v1/events", key=key)).problem(403, "action_not_granted")


@pytest.mark.parametrize("name", ["auditor", "key-admin", "producer"])
async def test_predefined_roles_stay_as_they_are(gateway: Gateway, name: str) -> None:
    assert (await put_role(gateway, name, EVERYTHING)).status == 400
    (await admin(gateway, "DELETE", f"/v1/roles/{name}")).problem(409, "predefined_role")


@pytest.mark.parametrize(
    "body",
    [None, [], {"grants": [{}]}, {"grant": []}, {"grants": [], "name": "y"}, {"description": "d"}],
)
async def test_a_malformed_role_is_refused(gateway: Gateway, body: Any) -> None:
    answer = await gateway.request("PUT", "/v1/roles/x", key=gateway.admin, json=body)
    assert answer.status in (400, 415)
    assert (await put_role(gateway, "X y", AUTH)).status == 400


# Nobody passes on more than they have

LIMITED = [
    {**AUTH, "tenants": ["acme"], "fields": {"mask": ["actor.name"]}},
    {"actions": ["stream", "pull"], "categories": ["auth.secret"], "effect": "deny"},
    ADMIN,
]
OWN = [LIMITED[0], LIMITED[1]]
MORE = {
    "another category": [EVERYTHING, LIMITED[1]],
    "another tenant": [{**LIMITED[0], "tenants": ["acme", "globex"]}, LIMITED[1]],
    "every tenant": [{**AUTH, "fields": {"mask": ["actor.name"]}}, LIMITED[1]],
    "another action": [{**LIMITED[0], "actions": ["ingest"]}, LIMITED[1]],
    "no mask": [{**AUTH, "tenants": ["acme"]}, LIMITED[1]],
    "another mask": [{**AUTH, "tenants": ["acme"], "fields": {"mask": ["reason"]}}, LIMITED[1]],
    "no denial": [LIMITED[0]],
    "a denial at night": [LIMITED[0], {**LIMITED[1], "when": {"hours": "22-06"}}],
    "the gateway's own": [LIMITED[0], LIMITED[1], {**AUTH, "categories": ["gateway.keys"]}],
    "usage": [*OWN, {"actions": ["usage.read"], "categories": ["**"]}],
}


async def minter(gateway: Gateway) -> str:
    return await gateway.mint(*LIMITED)


def exceeds(answer: Answer) -> None:
    assert "grant" in answer.problem(403, "exceeds_own_grants")


@pytest.mark.parametrize("grants", MORE.values(), ids=MORE)
async def test_a_key_makes_no_key_that_may_more(start: Start, grants: list[dict[str, Any]]) -> None:
    gateway = await start()
    limited = await minter(gateway)
    body = {"name": "n", "purpose": "p", "owner": "o", "grants": grants}
    exceeds(await admin(gateway, "POST", "/v1/keys", body, limited))
    exceeds(await put_role(gateway, "team", *grants, by=limited))
    # Nor through a role that somebody else has made, nor by rotating a key that may more.
    assert (await put_role(gateway, "team", *grants)).status == 201
    body = {"name": "n", "purpose": "p", "owner": "o", "roles": ["team"]}
    exceeds(await admin(gateway, "POST", "/v1/keys", body, limited))
    for other in (await gateway.mint(*grants), await gateway.mint(roles=["team"])):
        exceeds(await change(gateway, other, "rotate", by=limited))
        assert (await shown(gateway, other))["state"] == "active"


async def test_what_a_key_has_it_passes_on(start: Start) -> None:
    gateway = await start()
    limited = await minter(gateway)
    body = {"name": "n", "purpose": "p", "owner": "o", "grants": LIMITED}
    answer = await admin(gateway, "POST", "/v1/keys", body, limited)
    assert answer.status == 201, answer.body
    assert (await put_role(gateway, "team", *OWN, by=limited)).status == 201
    rotated = await change(gateway, answer.json()["key"], "rotate", by=limited)
    assert rotated.status == 201
    # And so on, from key to key: never more.
    exceeds(
        await admin(
            gateway, "POST", "/v1/keys", {**body, "grants": [EVERYTHING]}, rotated.json()["key"]
        )
    )


@pytest.mark.parametrize("role", ["auditor", "siem-forwarder", "key-admin", "producer"])
async def test_predefined_roles_are_passed_on_only_by_who_has_as_much(
    gateway: Gateway, role: str
) -> None:
    limited = await minter(gateway)
    body = {"name": "n", "purpose": "p", "owner": "o", "roles": [role]}
    exceeds(await admin(gateway, "POST", "/v1/keys", body, limited))
    assert (await admin(gateway, "POST", "/v1/keys", body)).status == 201


async def test_the_masks_of_all_of_ones_grants_are_passed_on(gateway: Gateway) -> None:
    """The minter sees `auth` through both grants, and so without names."""
    hiding = {**EVERYTHING, "fields": {"mask": ["actor.name"]}}
    limited = await gateway.mint(AUTH, hiding, ADMIN)
    body = {"name": "n", "purpose": "p", "owner": "o", "grants": [AUTH]}
    exceeds(await admin(gateway, "POST", "/v1/keys", body, limited))


@pytest.mark.parametrize(
    "holding",
    [{**AUTH, "effect": "deny"}, {**EVERYTHING, "fields": {"mask": ["actor.name"]}}],
    ids=["denies", "masks"],
)
async def test_a_role_that_holds_back_is_not_lifted_by_who_has_less(
    start: Start, holding: dict[str, Any]
) -> None:
    """Taking a denial or a mask out of a role gives its keys more than before."""
    gateway = await start()
    limited = await minter(gateway)
    assert (await put_role(gateway, "held", holding)).status == 201
    await gateway.mint(EVERYTHING, roles=["held"])
    exceeds(await put_role(gateway, "held", by=limited))
    exceeds(await admin(gateway, "DELETE", "/v1/roles/held", key=limited))
    assert (await admin(gateway, "DELETE", "/v1/roles/held")).status == 200


async def test_to_hold_back_more_is_every_administrators_right(gateway: Gateway) -> None:
    limited = await minter(gateway)
    await put_role(gateway, "held", {**AUTH, "effect": "deny"})
    await gateway.mint(EVERYTHING, roles=["held"])
    everything = {**EVERYTHING, "effect": "deny"}
    assert (await put_role(gateway, "held", everything, by=limited)).status == 200
    exceeds(await put_role(gateway, "held", {**AUTH, "effect": "deny"}, by=limited))
