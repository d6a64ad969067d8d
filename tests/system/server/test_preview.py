"""`POST /v1/authz/preview`: what proposed grants would see, within what the asking key sees."""

from __future__ import annotations

from typing import Any

import orjson
from gateway_client import event
from gateways import Gateway

ADMIN = {"actions": ["keys.admin"], "categories": ["**"]}


def pulls(**members: Any) -> dict[str, Any]:
    return {"actions": ["pull"], "categories": ["**"], **members}


async def preview(gateway: Gateway, by: str, *grants: dict[str, Any], **more: Any) -> Any:
    answer = await gateway.post("/v1/authz/preview", key=by, json={"grants": grants, **more})
    assert answer.status == 200, answer.body
    return answer.json()


async def sent(gateway: Gateway) -> None:
    await gateway.send(
        event(tenant="acme", category="auth.login", id="a1", actor={"id": "ann"}, severity=4),
        event(tenant="acme", category="billing", id="a2", severity=2),
        event(tenant="globex", category="auth.login", id="g1", actor={"id": "bob"}, severity=4),
    )


async def test_it_counts_and_shows_what_the_proposed_key_would_see(gateway: Gateway) -> None:
    await sent(gateway)
    found = await preview(gateway, gateway.admin, pulls(min_severity=4))
    assert (found["total"], found["complete"], found["exceeds"]) == (2, True, [])
    assert sum(one["count"] for one in found["buckets"]) == 2
    tenants = found["facets"]["tenant"]["values"]
    assert tenants == [{"value": "acme", "count": 1}, {"value": "globex", "count": 1}]
    assert [one["id"] for one in found["samples"]] == ["g1", "a1"]
    assert found["can"] == [
        "May pull events of any category but the gateway's own of severity 4 (high) or higher."
    ]
    assert "Cannot send events." in found["cannot"]


async def test_nothing_outside_of_the_asking_keys_view_is_counted_or_shown(
    gateway: Gateway,
) -> None:
    await sent(gateway)
    asking = await gateway.mint(ADMIN, pulls(tenants=["acme"]))
    found = await preview(gateway, asking, pulls())
    assert found["total"] == 2
    assert b"globex" not in orjson.dumps(found)
    [exceeds] = found["exceeds"]
    assert exceeds["categories"] == ["**"]
    assert (await preview(gateway, asking, pulls(tenants=["acme"])))["exceeds"] == []
    blind = await gateway.mint(ADMIN)
    found = await preview(gateway, blind, pulls())
    assert (found["total"], found["samples"]) == (0, [])


async def test_samples_have_the_masks_of_both(gateway: Gateway) -> None:
    await sent(gateway)
    asking = await gateway.mint(ADMIN, pulls(fields={"mask": ["actor.id"]}))
    wanted = pulls(tenants=["acme"], fields={"drop": ["severity"], "mask": ["action"]})
    wanted["fields"] = {"mask": ["data"]}
    found = await preview(gateway, asking, wanted)
    assert found["total"] == 2
    assert {one["actor"]["id"] for one in found["samples"] if "actor" in one} <= {"***"}
    assert b"ann" not in orjson.dumps(found["samples"])


async def test_what_masks_hide_decides_nothing(gateway: Gateway) -> None:
    target = {"type": "file", "id": "1", "urn": "file:secret"}
    await gateway.send(event(id="t1", targets=[target]))
    asking = await gateway.mint(ADMIN, pulls(fields={"mask": ["targets.urn"]}))
    wanted = pulls(resources=["file:secret"])
    assert (await preview(gateway, gateway.admin, wanted))["total"] == 1
    assert (await preview(gateway, asking, wanted))["total"] == 0


async def test_it_is_for_administrators_and_refuses_what_it_cannot_read(gateway: Gateway) -> None:
    by = await gateway.mint(pulls())
    body = {"grants": [pulls()]}
    answer = await gateway.post("/v1/authz/preview", key=by, json=body)
    answer.problem(403, "action_not_granted")
    for wrong in ({}, {"since": "yesterday", **body}, {"roles": ["nobody"]}, {"extra": 1, **body}):
        answer = await gateway.post("/v1/authz/preview", key=gateway.admin, json=wrong)
        assert answer.status == 400, wrong
