"""`keys.read`: looks at keys and roles, sees no event, changes nothing; and marks of reviews."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_client import event, key_id
from gateways import Gateway

from gateway.http.openapi.route import Route
from gateway.http.routes.table import ROUTES
from gateway.oversight.detection.signals import Signal
from tests.support.machine_time import becomes

READ = {"actions": ["keys.read"], "categories": ["**", "gateway.**"]}
EVERYTHING = {"actions": ["stream", "pull", "ingest"], "categories": ["**"]}
CHANGING = [
    route for route in ROUTES
    if not route.public and route.method != "GET" and route.name != "reviewKey"
]  # fmt: skip


@pytest.fixture
async def reader(gateway: Gateway) -> str:
    return await gateway.mint(READ, owner="auditors")


async def reviewed(gateway: Gateway, about: str, by: str) -> Any:
    path = f"/v1/keys/{key_id(about)}/reviewed"
    return await gateway.post(path, key=by, json={"note": "needed"})


def has_events(page: Any) -> bool:
    return bool(page["events"])


async def state_of(gateway: Gateway) -> tuple[Any, ...]:
    """All that administration can change."""
    store, context = gateway.context.key_store, gateway.context
    return (
        await store.newest_revision(), (await store.roles_since(-1))[0],
        await context.destination_store.all(), await context.detector.findings.all(),
    )  # fmt: skip


async def test_keys_read_shows_keys_roles_and_documents(gateway: Gateway, reader: str) -> None:
    shown = await gateway.mint(EVERYTHING, name="shown")
    await gateway.send(event(id="secret-event"))
    keys = (await gateway.get("/v1/keys", key=reader)).json()["keys"]
    assert "shown" in {one["name"] for one in keys}
    one = await gateway.get(f"/v1/keys/{key_id(shown)}", key=reader)
    assert (one.status, one.json()["name"]) == (200, "shown")
    assert (await gateway.get("/v1/roles", key=reader)).status == 200
    assert (await gateway.get("/v1/roles/auditor", key=reader)).status == 200
    for kind in ("text/markdown", "text/html", "application/json"):
        path = f"/v1/keys/{key_id(shown)}/document"
        document = await gateway.get(path, key=reader, headers={"Accept": kind})
        assert document.status == 200
        assert b"secret-event" not in document.body
        assert shown[18:].encode() not in document.body
    assert document.json()["samples"] == []


async def test_keys_read_alone_sees_no_record_and_is_told_so(gateway: Gateway, reader: str) -> None:
    path = f"/v1/keys/{key_id(reader)}/history"
    page = (await gateway.get(path, key=reader)).json()
    assert (page["events"], page["notice"]["code"]) == ([], "no_records_granted")
    pulls = {"actions": ["keys.read", "pull"], "categories": ["gateway.keys"]}
    await gateway.context.access_log.flush()
    both = await gateway.mint(pulls)
    await gateway.tail_reaches(gateway.context.log.head)
    page = (await gateway.get(path, key=both)).json()
    assert "notice" not in page


async def test_keys_read_alone_changes_nothing_on_any_route(gateway: Gateway, reader: str) -> None:
    other = await gateway.mint(EVERYTHING)
    names = {"{id}": key_id(other), "{name}": "auditor", "{secret}": "token", "{source}": "okta",
             "{set}": "prod"}  # fmt: skip

    async def call(route: Route) -> None:
        path = route.documented_path
        for name, value in {**names, "{cluster}": "c", "{index}": "i"}.items():
            path = path.replace(name, value)
        answer = await gateway.request(route.method, path, key=reader, json={})
        # A session is none of a key, and there is none.
        refused = {"signOut": (401, 403), "endSession": (404,)}.get(route.name, (403,))
        assert answer.status in refused, (route.name, answer.status)

    before = await state_of(gateway)
    for route in CHANGING:
        await call(route)
    assert await state_of(gateway) == before


async def test_conditions_and_denials_hold_for_what_keys_admin_implies(gateway: Gateway) -> None:
    elsewhere = await gateway.mint({**READ, "when": {"cidr": ["192.0.2.0/24"]}})
    (await gateway.get("/v1/keys", key=elsewhere)).problem(403, "address_not_allowed")
    admin = {"actions": ["keys.admin"], "categories": ["**"]}
    denied = await gateway.mint(admin, {**READ, "effect": "deny"})
    (await gateway.get("/v1/keys", key=denied)).problem(403, "denied_by_grant")
    assert (await gateway.get("/v1/keys", key=await gateway.mint(admin))).status == 200


async def test_a_mark_says_when_and_by_whom_and_is_recorded_with_its_note(
    gateway: Gateway, reader: str
) -> None:
    key = await gateway.mint(EVERYTHING)
    marked = (await reviewed(gateway, key, reader)).json()
    assert marked["reviewed_by"] == key_id(reader)
    shown = (await gateway.get(f"/v1/keys/{key_id(key)}", key=reader)).json()
    assert shown["reviewed_at"] == marked["reviewed_at"]
    await gateway.context.enforcement.poll_keys()
    auditor = await gateway.mint(roles=["auditor"], owner="auditors")

    page = await becomes(lambda: gateway.pull(auditor, action="key.reviewed"), has_events)
    [record] = page["events"]
    assert (record["category"], record["actor"]["id"]) == ("gateway.keys", key_id(reader))
    assert (record["reason"], record["targets"][0]["urn"]) == ("needed", f"key:{key_id(key)}")
    history = (await gateway.get(f"/v1/keys/{key_id(key)}/history", key=auditor)).json()["events"]
    actions = [one["action"] for one in history if one["category"] == "gateway.keys"]
    assert actions == ["key.created", "key.reviewed"]
    assert [one["cursor"] for one in history] == sorted(one["cursor"] for one in history)


async def test_nobody_reviews_their_own_case(gateway: Gateway, reader: str) -> None:
    both = {"actions": ["keys.admin", *EVERYTHING["actions"]], "categories": ["**"]}
    maker = await gateway.mint(both, owner="platform")
    made = (
        await gateway.post(
            "/v1/keys",
            key=maker,
            json={"name": "n", "purpose": "p", "owner": "team", "grants": [EVERYTHING]},
        )
    ).json()["key"]
    (await reviewed(gateway, made, maker)).problem(403, "own_case")
    (await reviewed(gateway, reader, reader)).problem(403, "own_case")
    # Nor what it made, where nobody but the gateway made it.
    (await reviewed(gateway, maker, gateway.admin)).problem(403, "own_case")
    # The owner is who is named, whatever the case of the letters.
    same = await gateway.mint(READ, owner=" Team")
    (await reviewed(gateway, made, same)).problem(403, "own_case")
    # A successor is the same, on either side.
    path = f"/v1/keys/{key_id(maker)}/rotate"
    successor = (await gateway.post(path, key=gateway.admin, json={})).json()["key"]
    (await reviewed(gateway, made, successor)).problem(403, "own_case")
    (await reviewed(gateway, successor, maker)).problem(403, "own_case")
    path = f"/v1/keys/{key_id(made)}/rotate"
    after = (await gateway.post(path, key=gateway.admin, json={})).json()["key"]
    (await reviewed(gateway, after, successor)).problem(403, "own_case")
    for key in (made, after, successor):
        assert (await reviewed(gateway, key, reader)).status == 200


async def test_a_successor_was_not_reviewed_yet(gateway: Gateway, reader: str) -> None:
    key = await gateway.mint(EVERYTHING)
    assert (await reviewed(gateway, key, reader)).status == 200
    path = f"/v1/keys/{key_id(key)}/rotate"
    successor = (await gateway.post(path, key=gateway.admin, json={})).json()
    assert "reviewed_at" not in successor
    listed = (await gateway.get("/v1/keys", key=reader)).json()["keys"]
    marks = {one["id"]: one.get("reviewed_by", "") for one in listed}
    assert (marks[key_id(key)], marks[successor["id"]]) == (key_id(reader), "")


async def test_the_list_says_what_each_key_may_do_when_it_was_used_and_what_was_found(
    gateway: Gateway, reader: str
) -> None:
    auth = {"actions": ["pull"], "categories": ["auth.**"], "tenants": ["acme"]}
    used, unused = await gateway.mint(auth), await gateway.mint(roles=["producer"])
    await gateway.pull(used)
    await gateway.context.access_log.flush()
    signal = Signal("probing", gateway.context.clock.now())
    await gateway.context.detector.findings.add(signal, key_id(used))

    async def listed(by: str) -> dict[str, Any]:
        keys = (await gateway.get("/v1/keys", key=by)).json()["keys"]
        return {one["id"]: one for one in keys}

    found = (await listed(gateway.admin))[key_id(used)]
    assert found["scope"] == ["May pull events of category auth.** of the tenant acme."]
    assert found["last_used"]["address"] == "127.0.0.1"
    assert found["findings_open"] == 1
    one = (await gateway.get(f"/v1/keys/{key_id(used)}", key=gateway.admin)).json()
    assert found["last_used"] == one["last_used"]
    never = (await listed(reader))[key_id(unused)]
    assert (never["last_used"], never["findings_open"]) == (None, None)
    assert never["scope"] == (await document_of(gateway, unused))["can"]


async def test_the_list_hides_of_uses_and_findings_what_the_asking_key_may_not_see(
    gateway: Gateway,
) -> None:
    used = await gateway.mint(EVERYTHING)
    await gateway.pull(used)
    await gateway.context.access_log.flush()
    signal = Signal("probing", gateway.context.clock.now())
    await gateway.context.detector.findings.add(signal, key_id(used))
    records = {"actions": ["pull"], "categories": ["gateway.**"]}
    masks = {"mask": ["source.ip", "targets.urn"]}
    asking = await gateway.mint(
        READ, {**READ, "actions": ["usage.read"]}, {**records, "fields": masks}
    )
    keys = (await gateway.get("/v1/keys", key=asking)).json()["keys"]
    [found] = [one for one in keys if one["id"] == key_id(used)]
    assert found["last_used"]["address"] == "***"
    assert found["findings_open"] == 0


async def document_of(gateway: Gateway, key: str) -> Any:
    path, headers = f"/v1/keys/{key_id(key)}/document", {"Accept": "application/json"}
    return (await gateway.get(path, key=gateway.admin, headers=headers)).json()
