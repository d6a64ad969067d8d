"""The predefined role `auditor`: reviews access on every route it has, and changes nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_client import event, key_id
from gateways import Gateway

from gateway.http.openapi.route import Route
from gateway.http.routes.table import ROUTES
from tests.support.machine_time import becomes

PULLS = {"actions": ["stream", "pull"], "categories": ["**"]}
ACTIONS = {"stream", "pull", "keys.read", "usage.read", "ops.read"}
# Other methods than GET that an auditor may use: looks with a body, marks, and what is its own.
LOOKS = {"explain", "streamPost", "ticket", "reviewKey", "putView", "deleteView", "acknowledge",
         "putConsumer", "rewindConsumer", "deleteConsumer", "endSession"}  # fmt: skip
NAMES = {"name": "auditor", "secret": "token", "source": "okta", "cluster": "c", "index": "i",
         "file": "x", "set": "prod"}  # fmt: skip


@pytest.fixture
async def auditor(gateway: Gateway) -> str:
    return await gateway.mint(roles=["auditor"], owner="auditors", name="auditor")


def changing() -> list[Route]:
    return [
        one
        for one in ROUTES
        if one.for_keys and one.name not in LOOKS and not (ACTIONS & {*one.actions})
    ]


async def state_of(gateway: Gateway) -> tuple[Any, ...]:
    """All that administration can change."""
    store, context = gateway.context.key_store, gateway.context
    return (
        await store.newest_revision(), (await store.roles_since(-1))[0],
        await context.destination_store.all(), await context.detector.findings.all(),
    )  # fmt: skip


async def test_every_route_that_needs_another_action_is_refused_and_nothing_changes(
    gateway: Gateway, auditor: str
) -> None:
    other = key_id(await gateway.mint(PULLS))
    before = await state_of(gateway)
    refused = changing()
    assert len(refused) > 30
    for route in refused:
        path = route.documented_path.format(**{"id": other, **NAMES})
        answer = await gateway.request(route.method, path, key=auditor, json={})
        assert answer.status == 403, (route.name, answer.status, answer.body)
    assert await state_of(gateway) == before


async def test_whatever_it_may_change_by_other_methods_than_get_is_its_own_or_a_mark() -> None:
    allowed = {
        one.name
        for one in ROUTES
        if one.for_keys and one.method != "GET" and ACTIONS & {*one.actions}
    }
    assert allowed <= LOOKS, "decide whether an auditor may do this"


async def test_it_completes_a_review(gateway: Gateway, auditor: str) -> None:
    """Lists, looks, marks, and exports the report in all formats."""
    kept = await gateway.mint(PULLS, owner="soc", name="kept")
    await gateway.send(event(id="a"))
    await gateway.pull(kept)
    listed = (await gateway.get("/v1/keys?state=active&owner=soc&limit=10", key=auditor)).json()
    assert [one["name"] for one in listed["keys"]] == ["kept"]
    for path in ("document", "usage", "history"):
        answer = await gateway.get(f"/v1/keys/{key_id(kept)}/{path}", key=auditor)
        assert answer.status == 200, path
    marked = await gateway.post(
        f"/v1/keys/{key_id(kept)}/reviewed", key=auditor, json={"note": "still needed"}
    )
    assert marked.json()["reviewed_by"] == key_id(auditor)
    own = await gateway.post(f"/v1/keys/{key_id(auditor)}/reviewed", key=auditor, json={})
    own.problem(403, "own_case")
    for kind in ("markdown", "html", "csv", "json"):
        report = await gateway.get(f"/v1/review?format={kind}", key=auditor)
        assert (report.status, b"kept" in report.body) == (200, True)
    assert report.json()["review"]["not_shown"] == []
    assert (await gateway.get("/v1/usage", key=auditor)).status == 200


async def test_the_history_of_a_key_is_in_the_order_of_the_log_page_by_page(
    gateway: Gateway, auditor: str
) -> None:
    key = await gateway.mint(PULLS, name="watched")
    path = f"/v1/keys/{key_id(key)}"
    for _ in range(2):
        await gateway.pull(key)
        await gateway.context.access_log.flush()
        await gateway.post(f"{path}/suspend", key=gateway.admin, json={})
        await gateway.post(f"{path}/resume", key=gateway.admin)

    async def actions() -> list[str]:
        events: list[dict[str, Any]] = []
        query = "?limit=2"
        while True:
            page = (await gateway.get(f"{path}/history{query}", key=auditor)).json()
            events += page["events"]
            if not page["has_more"]:
                cursors = [one["cursor"] for one in events]
                assert cursors == sorted(cursors)
                return [one["action"] for one in events if one["category"] == "gateway.keys"]
            query = f"?limit=2&after={page['cursor']}"

    wanted = ["key.created", "key.suspended", "key.resumed", "key.suspended", "key.resumed"]
    await becomes(actions, lambda found: found == wanted)
