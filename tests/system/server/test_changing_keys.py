"""Changes of keys: schedules, copies, and merge patches of the state of a key that is meant."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_client import Answer, event, key_id
from gateways import Gateway
from open_streams import open_stream

from gateway.clock import parse_rfc3339
from tests.support.machine_time import becomes

GRANT = {"actions": ["stream", "pull"], "categories": ["auth.**"], "tenants": ["acme"]}
ADMIN = {"actions": ["keys.admin"], "categories": ["**"]}
LEAST = {"name": "siem", "purpose": "alerts", "owner": "soc"}
SCHEDULE = {"every": "30d", "overlap": "1d"}


async def made(gateway: Gateway, **members: Any) -> Any:
    answer = await gateway.post("/v1/keys", key=gateway.admin, json={**LEAST, **members})
    assert answer.status == 201, answer.body
    return answer.json()


async def test_a_key_says_when_it_is_to_be_rotated_and_its_revision_is_its_entity_tag(
    gateway: Gateway,
) -> None:
    key = await made(gateway, grants=[GRANT], rotate=SCHEDULE)
    shown = await gateway.get(f"/v1/keys/{key['id']}", key=gateway.admin)
    listed = (await gateway.get("/v1/keys", key=gateway.admin)).json()["keys"]
    [row] = [one for one in listed if one["id"] == key["id"]]
    for one in (key, shown.json(), row):
        assert one["rotate"] == SCHEDULE
        assert one["rotate_by"] > one["created_at"]
        assert one["revision"] == key["revision"] > 0
    assert shown.headers["ETag"] == f'"{key["revision"]}"'
    await gateway.post(f"/v1/keys/{key['id']}/suspend", key=gateway.admin, json={})
    again = await gateway.get(f"/v1/keys/{key['id']}", key=gateway.admin)
    assert again.headers["ETag"] != shown.headers["ETag"]


async def test_a_successor_inherits_the_schedule_and_the_old_key_has_no_date_any_more(
    gateway: Gateway,
) -> None:
    key = await made(gateway, rotate=SCHEDULE)
    answer = await gateway.post(f"/v1/keys/{key['id']}/rotate", key=gateway.admin, json={})
    successor = answer.json()
    assert (successor["rotate"], successor["rotate_by"] > key["rotate_by"]) == (SCHEDULE, True)
    old = (await gateway.get(f"/v1/keys/{key['id']}", key=gateway.admin)).json()
    assert "rotate_by" not in old
    # Without another wish the overlap is that of the schedule.
    life = parse_rfc3339(old["drains_until"]) - parse_rfc3339(successor["created_at"])
    assert life == 86_400_000_000


async def test_a_copy_has_the_grants_of_the_other_key_and_needs_what_making_it_needs(
    gateway: Gateway,
) -> None:
    original = await made(gateway, grants=[GRANT], rotate=SCHEDULE, limits={"events_per_second": 5})
    copied = await made(gateway, name="second", copy_of=original["id"])
    for name in ("grants", "rotate", "limits"):
        assert copied[name] == original[name]
    assert (copied["name"], copied["id"] != original["id"]) == ("second", True)
    small = await gateway.mint(ADMIN)
    body = {**LEAST, "copy_of": original["id"]}
    refused = await gateway.post("/v1/keys", key=small, json=body)
    assert (refused.status, refused.json()["code"]) == (403, "exceeds_own_grants")
    for unknown in ("0" * 12, gateway.admin):
        body = {**LEAST, "copy_of": unknown}
        refused = await gateway.post("/v1/keys", key=gateway.admin, json=body)
        assert (refused.status, refused.json()["code"]) == (404, "unknown_key")
    assert key_id(small) != original["id"]


async def patch(
    gateway: Gateway, key: str, members: Any, tag: str | None = "*", by: str = "", **headers: str
) -> Answer:
    named = {} if tag is None else {"If-Match": tag}
    return await gateway.request(
        "PATCH", f"/v1/keys/{key}", key=by or gateway.admin, json=members,
        headers={**named, **headers},
    )  # fmt: skip


async def test_a_patch_names_the_state_that_it_is_meant_for(gateway: Gateway) -> None:
    key = await made(gateway, grants=[GRANT])
    path, tag = key["id"], f'"{key["revision"]}"'
    refused = await patch(gateway, path, {"owner": "new"}, None)
    assert "If-Match" in refused.problem(428, "precondition_required")["detail"]
    (await patch(gateway, path, {"owner": "new"}, "12")).problem(400, "invalid_request")
    changed = await patch(gateway, path, {"owner": "new"}, tag)
    assert (changed.status, changed.json()["owner"]) == (200, "new")
    newest = changed.headers["ETag"]
    assert newest == f'"{changed.json()["revision"]}"' != tag
    for stale in (tag, f"W/{newest}", '"0", "1"'):
        problem = (await patch(gateway, path, {"owner": "other"}, stale)).problem(
            412, "precondition_failed"
        )
        assert (problem["etag"], newest in problem["detail"]) == (newest, True)
    both = await patch(gateway, path, {"owner": "both"}, f'"0", {newest}')
    assert both.status == 200
    assert (await patch(gateway, path, {"owner": "any"})).json()["owner"] == "any"


async def test_a_patch_without_effect_is_no_change(gateway: Gateway) -> None:
    key = await made(gateway, grants=[GRANT])
    for members in ({}, {"owner": "soc", "grants": [GRANT]}):
        same = await patch(gateway, key["id"], members, f'"{key["revision"]}"')
        assert (same.status, same.json()["revision"]) == (200, key["revision"])


async def test_patches_are_sent_as_json_of_either_type(gateway: Gateway) -> None:
    key = await made(gateway)
    for kind in ("application/merge-patch+json", "application/json"):
        answer = await patch(gateway, key["id"], {"name": kind}, **{"Content-Type": kind})
        assert answer.json()["name"] == kind
    other = await patch(gateway, key["id"], {}, **{"Content-Type": "text/plain"})
    other.problem(415, "unsupported_media_type")


async def test_narrowing_needs_nothing_and_widening_what_making_needs(gateway: Gateway) -> None:
    key = await made(gateway, grants=[GRANT])
    small = await gateway.mint(ADMIN)
    for members in ({"grants": [{**GRANT, "actions": ["pull"]}]}, {"expires_in": "1h"},
                    {"owner": "new"}, {"grants": []}):  # fmt: skip
        assert (await patch(gateway, key["id"], members, by=small)).status == 200, members
    for members in ({"grants": [GRANT]}, {"roles": ["auditor"]}):
        (await patch(gateway, key["id"], members, by=small)).problem(403, "exceeds_own_grants")
    assert (await patch(gateway, key["id"], {"expires_in": "2h"}, by=small)).status == 200
    able = await gateway.mint(ADMIN, GRANT, limits={"events_per_second": 10})
    refused = await patch(gateway, key["id"], {"grants": [GRANT]}, by=able)
    assert refused.problem(403, "exceeds_own_limits")["limit"] == "events_per_second"
    members = {"grants": [GRANT], "limits": {"events_per_second": 10}}
    assert (await patch(gateway, key["id"], members, by=able)).status == 200


async def test_no_administrator_prolongs_itself_or_one_beyond_its_own_life(
    gateway: Gateway,
) -> None:
    admin = await gateway.mint(ADMIN, expires_in="10d")
    other = await gateway.mint(ADMIN, expires_in="1d")
    for about in (admin, other):
        refused = await patch(gateway, key_id(about), {"expires_in": "20d"}, by=admin)
        refused.problem(400, "outlives_maker")
    assert (await patch(gateway, key_id(other), {"expires_in": "9d"}, by=admin)).status == 200
    plain = await gateway.mint(expires_in="30d")
    refused = await patch(gateway, key_id(plain), {"grants": [ADMIN]}, by=admin)
    refused.problem(400, "outlives_maker")


@pytest.mark.parametrize("how", ["revoke", "drain"])
async def test_a_key_that_has_ended_is_not_revived(gateway: Gateway, how: str) -> None:
    key = await made(gateway, grants=[GRANT])
    path = f"/v1/keys/{key['id']}"
    if how == "revoke":
        await gateway.post(f"{path}/revoke", key=gateway.admin, json={})
    else:
        await gateway.post(f"{path}/rotate", key=gateway.admin, json={"overlap": "0s"})
    (await patch(gateway, key["id"], {"expires_in": "1d"})).problem(409, "key_ended")


async def test_the_record_of_a_change_has_the_old_and_the_new_members(gateway: Gateway) -> None:
    key = await made(gateway, grants=[GRANT], rotate=SCHEDULE)
    narrow = {**GRANT, "tenants": ["globex"]}
    members = {"grants": [narrow], "owner": "new", "rotate": None, "name": "siem"}
    await patch(gateway, key["id"], members)

    async def told() -> Any:
        page = await gateway.pull(gateway.admin, action="key.changed", category="gateway.keys")
        return [one for one in page["events"] if one["data"]["key"] == key["id"]]

    [one] = await becomes(told, bool)
    assert one["actor"]["id"] == key_id(gateway.admin)
    assert one["data"]["old"] == {"grants": [GRANT], "owner": "soc", "rotate": SCHEDULE}
    assert one["data"]["new"] == {"grants": [narrow], "owner": "new", "rotate": None}


async def test_an_open_stream_narrows_with_its_key_and_ends_with_its_last_grant(
    gateway: Gateway,
) -> None:
    token = await gateway.mint({"actions": ["stream"], "categories": ["**"]})
    stream = await open_stream(gateway, "sse", token)
    await gateway.send(event(id="before", category="auth"))
    assert (await stream.event())["id"] == "before"
    auth = {"actions": ["stream"], "categories": ["auth.**"], "fields": {"mask": ["actor.name"]}}
    assert (await patch(gateway, key_id(token), {"grants": [auth]})).status == 200
    await gateway.send(event(id="hidden", category="billing"))
    await gateway.send(event(id="after", category="auth.x", actor={"name": "Ann"}))
    seen = await stream.event()
    assert (seen["id"], seen["masked"]) == ("after", ["actor.name"])
    await patch(gateway, key_id(token), {"grants": []})
    assert (await stream.to_end())["code"] == 4503


async def test_an_open_stream_comes_back_under_new_limits_and_ends_with_a_shorter_life(
    gateway: Gateway,
) -> None:
    token = await gateway.mint({"actions": ["stream"], "categories": ["**"]})
    stream = await open_stream(gateway, "sse", token)
    await patch(gateway, key_id(token), {"limits": {"events_per_second": 5}})
    assert (await stream.to_end())["code"] == 4001
    again = await open_stream(gateway, "sse", token)
    await patch(gateway, key_id(token), {"owner": "others"})
    assert await gateway.streams() == 1, "its limits are the same"
    await patch(gateway, key_id(token), {"expires_in": "1s"})
    assert (await again.to_end())["code"] == 4502


async def test_what_was_simulated_is_what_is_applied_or_nothing_is(gateway: Gateway) -> None:
    key = await made(gateway, grants=[GRANT])
    proposal = {"key": key["id"], "grants": [{**GRANT, "actions": ["pull"]}], "roles": []}
    found = await gateway.post("/v1/authz/simulate", key=gateway.admin, json=proposal)
    apply = found.json()["apply"]
    assert apply["patch"] == {"grants": proposal["grants"], "roles": []}
    changed = await patch(gateway, key["id"], apply["patch"], apply["if_match"])
    assert changed.json()["grants"] == proposal["grants"]
    again = await patch(gateway, key["id"], apply["patch"], apply["if_match"])
    again.problem(412, "precondition_failed")
