"""A stored role of an older version that has the name of one that is predefined now."""

from __future__ import annotations

from gateway_client import event, key_id
from gateways import Gateway

from gateway.access.grants.grant import parse_grant
from gateway.access.grants.role import Role

GRANT = {"actions": ["pull"], "categories": ["auth"]}


async def test_it_counts_as_it_stands_and_can_only_be_deleted(gateway: Gateway) -> None:
    context = gateway.context
    await context.key_store.put_role(Role(name="on-call", grants=(parse_grant(GRANT),)))
    await context.enforcement.poll()
    key = await gateway.mint(roles=["on-call"])
    await gateway.send(event(id="seen"))
    assert [one["id"] for one in (await gateway.pull(key))["events"]] == ["seen"]
    (await gateway.get("/v1/streams", key=key)).problem(403, "action_not_granted")
    path = "/v1/roles/on-call"
    assert not (await gateway.get(path, key=gateway.admin)).json()["builtin"]
    changed = await gateway.request("PUT", path, key=gateway.admin, json={"grants": [GRANT]})
    changed.problem(400, "invalid_request")
    deleted = await gateway.request("DELETE", path, key=gateway.admin)
    assert (deleted.status, deleted.json()["keys"]) == (200, [key_id(key)])
    # It takes the rights with it: the predefined one of that name gives nothing to its keys.
    (await gateway.get("/v1/events", key=key)).problem(403, "action_not_granted")
    (await gateway.get("/v1/streams", key=key)).problem(403, "action_not_granted")
    (await gateway.request("DELETE", path, key=gateway.admin)).problem(409, "predefined_role")
    # From now on it means the predefined one, in this process, too.
    after = await gateway.mint(roles=["on-call"])
    assert (await gateway.get("/v1/streams", key=after)).status == 200
