"""Keys with schedules, copies of keys, and the state of a key that a change is meant for."""

from __future__ import annotations

from typing import Any

from gateway_client import key_id
from gateways import Gateway

from gateway.clock import parse_rfc3339

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
