"""Declared sets over HTTP: plans, their application, and what it needs."""

from __future__ import annotations

from typing import Any

from gateway_client import Answer, event, key_id
from gateways import Gateway
from open_streams import open_stream

from tests.support.machine_time import eventually
from tests.support.scripted_outlet import Receiver

GRANT = {"actions": ["stream", "pull"], "categories": ["auth.**"], "tenants": ["acme"]}
BOTH = {**GRANT, "tenants": ["acme", "globex"]}
ADMIN = {"actions": ["keys.admin"], "categories": ["**"]}
LEAST = {"purpose": "alerts", "owner": "soc"}


async def declare(gateway: Gateway, raw: Any, query: str = "", by: str = "") -> Answer:
    return await gateway.post(f"/v1/declarations/prod{query}", key=by or gateway.admin, json=raw)


async def applied(gateway: Gateway, raw: Any, query: str = "", by: str = "") -> Any:
    answer = await declare(gateway, raw, query, by)
    assert answer.status == 200, answer.body
    return answer.json()


def secrets(answer: Any) -> dict[str, str]:
    return {one["name"]: one["key"] for one in answer.get("made", ())}


async def test_a_set_is_planned_applied_once_and_then_empty(gateway: Gateway) -> None:
    raw = {"roles": {"r": {"grants": [GRANT]}}, "keys": {"siem": {**LEAST, "roles": ["r"]}}}
    plan = await applied(gateway, raw, "?dry_run=true")
    assert (plan["applied"], plan["counts"]) == (False, {"+": 2})
    assert plan["changes"][0]["newly"] == [
        "May stream and pull events of category auth.** of the tenant acme."
    ]
    assert (await gateway.get("/v1/roles/r", key=gateway.admin)).status == 404
    done = await applied(gateway, raw, f"?expect={plan['digest']}")
    assert done["applied"]
    key = secrets(done)["siem"]
    assert (await gateway.get("/v1/events", key=key)).status == 200
    shown = (await gateway.get(f"/v1/keys/{key_id(key)}", key=gateway.admin)).json()
    assert shown["managed_by"] == "prod/siem"
    role = (await gateway.get("/v1/roles/r", key=gateway.admin)).json()
    assert role["managed_by"] == "prod/r"
    again = await applied(gateway, raw)
    assert (again["counts"], again.get("made")) == ({"=": 2}, None)
    stale = await declare(gateway, raw, f"?expect={plan['digest']}")
    assert stale.problem(412, "plan_changed")["etag"] == again["digest"]


async def test_one_who_cannot_make_a_key_cannot_declare_it(gateway: Gateway) -> None:
    small = await gateway.mint(ADMIN, GRANT)
    ours = {"keys": {"ours": {**LEAST, "grants": [GRANT]}}}
    await applied(gateway, ours, by=small)
    for raw in (
        {"keys": {"ours": {**LEAST, "grants": [BOTH]}}},
        {"keys": {**ours["keys"], "more": {**LEAST, "roles": ["auditor"]}}},
        {"roles": {"r": {"grants": [BOTH]}}},
        {"roles": {"r": {"grants": [BOTH]}}, "keys": {"ours": {**LEAST, "roles": ["r"]}}},
    ):
        for query in ("", "?dry_run=true"):
            problem = (await declare(gateway, raw, query, small)).problem(403, "exceeds_own_grants")
            assert problem["path"] in ("keys.ours", "keys.more", "roles.r")
    assert (await gateway.get("/v1/roles/r", key=gateway.admin)).status == 404, "nothing was done"
    # To narrow needs nothing.
    await applied(gateway, {"keys": {"wide": {**LEAST, "grants": [BOTH]}, **ours["keys"]}})
    narrower = {"keys": {"wide": {**LEAST, "grants": [GRANT]}, **ours["keys"]}}
    assert (await applied(gateway, narrower, by=small))["counts"] == {"~": 1, "=": 1}


async def test_what_a_role_hides_is_not_lifted_by_a_set(gateway: Gateway) -> None:
    """As by a change of the role itself: keys with it would gain more than the caller has."""
    hiding = {**GRANT, "fields": {"drop": ["data"]}}
    await applied(
        gateway,
        {"roles": {"r": {"grants": [hiding]}},
         "keys": {"k": {**LEAST, "grants": [BOTH], "roles": ["r"]}}},
    )  # fmt: skip
    small = await gateway.mint(ADMIN, hiding)
    lifted = {"roles": {"r": {"grants": []}},
              "keys": {"k": {**LEAST, "grants": [BOTH], "roles": ["r"]}}}  # fmt: skip
    (await declare(gateway, lifted, by=small)).problem(403, "exceeds_own_grants")


async def test_live_streams_are_named_in_the_plan_and_narrow_or_end_with_it(
    gateway: Gateway,
) -> None:
    raw: Any = {"keys": {name: {**LEAST, "grants": [BOTH]} for name in ("a", "b", "c")}}
    keys = secrets(await applied(gateway, raw))
    streams = {name: await open_stream(gateway, "ndjson", key) for name, key in keys.items()}
    after = {"keys": {"a": {**LEAST, "grants": [GRANT]}, "c": raw["keys"]["c"]}}
    plan = await applied(gateway, after, "?dry_run=true&prune=true")
    assert {(one["name"], one["effect"]) for one in plan["streams"]} == {
        ("a", "narrows"), ("b", "ends")
    }  # fmt: skip
    hidden = await applied(
        gateway, after, "?dry_run=true&prune=true", await gateway.mint(ADMIN, BOTH)
    )
    assert "streams" not in hidden, "they are told to whom may see streams of others"
    await applied(gateway, after, f"?prune=true&expect={plan['digest']}")
    await gateway.send(event(tenant="globex", category="auth.session"),
                       event(tenant="acme", category="auth.session"))  # fmt: skip
    assert (await streams["a"].event())["tenant"] == "acme"
    assert (await streams["c"].event())["tenant"] == "globex"
    assert (await streams["b"].to_end())["code"] == 4501


async def test_a_set_that_is_wrong_says_where(gateway: Gateway) -> None:
    for raw, path in (
        ({"policies": {}}, "policies"),
        ({"set": "other"}, "set"),
        ({"keys": {"a": {**LEAST, "secret": {"file": "/x"}}}}, "keys.a.secret"),
        ({"keys": {"a": {**LEAST, "grants": [{**GRANT, "tenants": ["?"]}]}}},
         "keys.a.grants[0].tenants[0]"),
        ({"keys": {"a": {**LEAST, "roles": ["nobody"]}}}, "keys.a"),
    ):  # fmt: skip
        answer = await declare(gateway, raw)
        assert (answer.status, answer.json().get("path")) == (400, path), answer.body
    twice = await gateway.post(
        "/v1/declarations/prod", key=gateway.admin, data=b'{"keys":{},"keys":{}}',
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    assert "stands twice" in twice.problem(400, "invalid_request")["detail"]
    (await declare(gateway, {}, "?expect=1")).problem(400, "invalid_request")
    assert (
        await gateway.post("/v1/declarations/Pr%20od", key=gateway.admin, json={})
    ).status == 400


def with_receiver(gateway: Gateway) -> Receiver:
    receiver = Receiver()
    gateway.context.deliveries.parts.outlets.types = {"scripted": receiver.outlet_type()}
    return receiver


async def test_destinations_follow_the_declared_key(gateway: Gateway) -> None:
    receiver = with_receiver(gateway)
    outlet = {"type": "scripted", "key": "siem", "settings": {"url": "x"}}
    raw: Any = {
        "keys": {"siem": {**LEAST, "grants": [GRANT]}},
        "destinations": {"out": {**outlet, "secrets": {"token": "s3cr3t-1"}}},
    }
    plan = await applied(gateway, raw, "?dry_run=true")
    assert "s3cr3t-1" not in str(plan)
    done = await applied(gateway, raw)
    shown = (await gateway.get("/v1/destinations/out", key=gateway.admin)).json()
    assert (shown["managed_by"], shown["key"]) == ("prod/out", done["made"][0]["id"])
    await gateway.send(event(tenant="acme", category="auth.session", id="one"))
    await eventually(lambda: receiver.batches == [1])
    assert (await applied(gateway, raw))["counts"] == {"=": 2}
    raw["destinations"]["out"]["secrets"]["token"] = "s3cr3t-2"
    raw["destinations"]["out"]["select"] = {"min_severity": 3}
    changed = await applied(gateway, raw)
    [line] = [one for one in changed["changes"] if one["mark"] == "~"]
    assert set(line["members"]) == {"select", "secrets.token"}
    assert "s3cr3t" not in str(changed)
    assert (await applied(gateway, raw))["counts"] == {"=": 2}
    # What somebody changes is shown, and put right.
    await gateway.request(
        "PATCH", "/v1/destinations/out", key=gateway.admin, json={"select": {"min_severity": 5}}
    )
    drifted = await applied(gateway, raw)
    assert [one["drift"]["by"] for one in drifted["changes"] if "drift" in one] == [
        key_id(gateway.admin)
    ]
    # The key is made anew, and the destination delivers for that one.
    await gateway.post(f"/v1/keys/{done['made'][0]['id']}/revoke", key=gateway.admin, json={})
    anew = await applied(gateway, raw)
    shown = (await gateway.get("/v1/destinations/out", key=gateway.admin)).json()
    assert shown["key"] == anew["made"][0]["id"] != done["made"][0]["id"]
    small = await gateway.mint(ADMIN, GRANT)
    (await declare(gateway, raw, by=small)).problem(403, "action_not_granted")
    left = {"keys": raw["keys"]}
    assert (await applied(gateway, left))["counts"] == {"=": 1, "!": 1}
    assert (await applied(gateway, left, "?prune=true"))["counts"] == {"=": 1, "-": 1}
    assert (await gateway.get("/v1/destinations/out", key=gateway.admin)).status == 404


async def test_a_large_set_names_what_changes_of_it(gateway: Gateway) -> None:
    raw = {
        "roles": {f"r{number}": {"grants": [GRANT]} for number in range(20)},
        "keys": {
            f"k{number}": {**LEAST, "grants": [GRANT], "roles": [f"r{number % 20}"]}
            for number in range(200)
        },
    }
    await applied(gateway, raw)
    raw["roles"]["r1"] = {"grants": [BOTH]}
    plan = await applied(gateway, raw, "?dry_run=true")
    assert plan["counts"] == {"~": 1, "=": 219}
    assert plan["changes"][0]["holders_count"] == 10
