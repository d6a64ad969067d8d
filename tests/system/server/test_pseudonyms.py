"""Pseudonyms as a recipient has them: on every way, over a rotation, and by which it can ask."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from gateway_client import event, key_id
from gateways import Gateway, ShiftedClock, Start
from open_streams import TRANSPORTS, open_stream

from gateway.access.keys import pseudonym_secrets
from gateway.access.keys.pseudonym_secrets import KIND, LEARN_MICROS, NAME
from tests.support.machine_time import eventually, patience

NAMED = ["actor.id", "actor.name", "source.ip", "targets.id", "data.user"]
MEMBERS: dict[str, Any] = {
    "actor": {"id": "alice", "name": "Alice"},
    "source": {"ip": "192.0.2.7", "port": 443},
    "targets": [{"urn": "app:x", "id": "alice"}],
    "data": {"user": {"id": "alice", "age": 98765432109}, "n": 1},
}
VALUES = (b"alice", b"Alice", b"192.0.2.7", b"98765432109")


async def recipient(gateway: Gateway, *paths: str, **members: Any) -> str:
    fields = {"pseudonymize": list(paths or NAMED)}
    grant = {"actions": ["stream", "pull"], "categories": ["auth"], "fields": fields}
    return await gateway.mint(grant, **members)


async def lines(gateway: Gateway, key: str, **params: str) -> list[bytes]:
    """Events of a page, as they came."""
    answer = await gateway.get(
        "/v1/events", key=key, params=params, headers={"Accept": "application/x-ndjson"}
    )
    assert answer.status == 200, answer.body
    return answer.body.splitlines()


async def rotate(gateway: Gateway, shifted: ShiftedClock) -> None:
    """As `audit-gateway pseudonyms rotate` does; what is sent from now on has the new version."""
    context = gateway.context
    change = pseudonym_secrets.rotated(
        context.keyring.peppers.current.secret, int(shifted.now() * 1_000_000)
    )
    await context.key_store.update_notes(KIND, {NAME: change})

    def known() -> bool:
        found = context.keyring.pseudonyms
        return found is not None and len(found.versions) == 2

    await eventually(known, "the gateway knows the new version")
    shifted.shift += LEARN_MICROS / 1_000_000 + 1


async def test_every_way_gives_the_same_bytes_over_a_rotation(
    start: Start, shifted: ShiftedClock
) -> None:
    gateway = await start(shifted)
    key = await recipient(gateway)
    streams = [
        await open_stream(gateway, transport, key, category="auth") for transport in TRANSPORTS
    ]
    await gateway.send(event(id="1", **MEMBERS))
    live = [[await stream.event()] for stream in streams]
    await rotate(gateway, shifted)
    await gateway.send(event(id="2", **MEMBERS))
    for events, stream in zip(live, streams, strict=True):
        events.append(await stream.event())
    assert all(events == live[0] for events in live)
    old, new = (one["actor"]["id"] for one in live[0])
    assert (old[:4], new[:4]) == ("ps1_", "ps2_")
    assert {name: value[4:] for name, value in live[0][0]["actor"].items()} != {
        name: value[4:] for name, value in live[0][1]["actor"].items()
    }
    page = await lines(gateway, key)
    assert page == await lines(gateway, key)
    assert (await gateway.pull(key))["events"] == live[0]
    for transport in TRANSPORTS:
        again = await open_stream(gateway, transport, key, from_="start", category="auth")
        assert await again.take(2) == live[0]
    single = await gateway.get("/v1/events/2", key=key)
    assert single.body.strip() == page[1]
    assert not any(value in line for value in VALUES for line in page)


@pytest.mark.parametrize("transport", ["ndjson", "audit.v1.batch"])
async def test_who_has_a_pseudonym_can_ask_by_it_and_nobody_by_a_value(
    gateway: Gateway, transport: str
) -> None:
    key = await recipient(gateway, "actor.id", "targets.urn", "data.user")
    await gateway.send(event(id="1", **MEMBERS))
    [shown] = (await gateway.pull(key))["events"]
    actor, urn = shown["actor"]["id"], shown["targets"][0]["urn"]
    asked = [
        ({"actor": actor}, {"actor": "alice"}),
        ({"resource": urn}, {"resource": "app:x"}),
        ({"filter": f'actor.id == "{actor}"'}, {"filter": 'actor.id == "alice"'}),
        ({"filter": f'data.user.id in ["{actor}"]'}, {"filter": "data.user.age == 98765432109"}),
    ]
    streams = [
        (await open_stream(gateway, transport, key, **by_pseudonym),
         await open_stream(gateway, transport, key, **by_value))
        for by_pseudonym, by_value in asked
    ]  # fmt: skip
    await gateway.send(event(id="2", **MEMBERS))
    await gateway.tail_reaches(gateway.context.log.head)
    for (found, nothing), (by_pseudonym, by_value) in zip(streams, asked, strict=True):
        assert (await found.event())["id"] == "2"
        assert nothing.events == []
        ids = [one["id"] for one in (await gateway.pull(key, **by_pseudonym))["events"]]
        assert ids == ["1", "2"]
        assert (await gateway.pull(key, **by_value))["events"] == []


async def test_pseudonyms_join_within_a_domain_and_nowhere_else(gateway: Gateway) -> None:
    first = await recipient(gateway, "actor.id", pseudonym_domain="siem")
    second = await recipient(gateway, "actor", pseudonym_domain="siem")
    other = await recipient(gateway, "actor.id")
    rotated = await gateway.post(f"/v1/keys/{key_id(other)}/rotate", key=gateway.admin)
    for number, tenant in enumerate(("acme", "acme", "globex")):
        await gateway.send(event(id=str(number), tenant=tenant, actor={"id": "alice"}))
    seen = {
        name: [one["actor"]["id"] for one in (await gateway.pull(key))["events"]]
        for name, key in (
            ("first", first), ("second", second), ("other", other),
            ("successor", rotated.json()["key"]),
        )
    }  # fmt: skip
    assert seen["first"] == seen["second"]
    assert seen["other"] == seen["successor"]
    assert len({value for values in seen.values() for value in values}) == 4


async def test_nobody_joins_the_domain_of_keys_that_they_could_not_make(gateway: Gateway) -> None:
    foreign = await recipient(gateway, "actor.id", pseudonym_domain="siem")
    own = {"actions": ["pull"], "categories": ["auth"], "tenants": ["globex"]}
    admin = {"actions": ["keys.admin"], "categories": ["**"]}
    delegate = await gateway.mint(admin, own)
    hidden = {**own, "fields": {"pseudonymize": ["actor.id"]}}
    made = {
        "name": "n", "purpose": "p", "owner": "o", "expires_in": "1h", "grants": [hidden],
    }  # fmt: skip

    async def make(domain: str, key: str) -> Any:
        return await gateway.post("/v1/keys", key=key, json={**made, "pseudonym_domain": domain})

    refused = await make("siem", delegate)
    assert "grant" not in refused.problem(403, "foreign_pseudonym_domain")
    await gateway.revoke(foreign)
    (await make("siem", delegate)).problem(403, "foreign_pseudonym_domain")
    # One of its own, again and again, and any for who could make all keys of it.
    for _ in range(2):
        assert (await make("globex-siem", delegate)).status == 201
    for domain in ("siem", "globex-siem"):
        assert (await make(domain, gateway.admin)).status == 201


async def test_grants_look_at_the_true_event(gateway: Gateway) -> None:
    grant = {"actions": ["pull"], "categories": ["auth"], "resources": ["app:x"],
             "fields": {"pseudonymize": ["targets.urn"]}}  # fmt: skip
    key = await gateway.mint(grant)
    await gateway.send(event(id="1", targets=[{"urn": "app:x"}]))
    await gateway.send(event(id="2", targets=[{"urn": "app:y"}]))
    [shown] = (await gateway.pull(key))["events"]
    assert shown["id"] == "1"
    assert shown["targets"][0]["urn"].startswith("ps1_")


async def test_a_key_that_could_try_guesses_is_refused(gateway: Gateway) -> None:
    reading = {"actions": ["pull"], "categories": ["auth"], "tenants": ["acme"],
               "fields": {"pseudonymize": ["actor.id"]}}  # fmt: skip
    body = {"name": "n", "purpose": "p", "owner": "o",
            "grants": [reading, {"actions": ["ingest"], "categories": ["**"]}]}  # fmt: skip
    answer = await gateway.post("/v1/keys", json=body, key=gateway.admin)
    assert answer.problem(400, "pseudonym_oracle")["tenant"] == "acme"


async def test_reviews_show_no_value(gateway: Gateway) -> None:
    """Documents and explanations name the rule; a reader who sees pseudonyms sees them there."""
    key = await recipient(gateway)
    await gateway.send(event(id="1", **MEMBERS))
    path = f"/v1/keys/{key_id(key)}/document"
    answer = await gateway.get(path, key=gateway.admin, headers={"Accept": "application/json"})
    document = answer.json()
    assert document["pseudonymizes"] == sorted(NAMED)
    assert not any(value in answer.body for value in VALUES)
    asked = {"key": key_id(key), "action": "pull", "event": (await gateway.pull(key))["events"][0]}
    explained = await gateway.post("/v1/authz/explain", key=gateway.admin, json=asked)
    assert explained.json()["pseudonymizes"] == sorted(NAMED)


@pytest.mark.parametrize("way", ["mask", "drop", "pseudonymize"])
async def test_samples_tell_no_reader_which_resource_an_event_has(
    gateway: Gateway, way: str
) -> None:
    scoped = {"actions": ["pull"], "categories": ["auth"], "resources": ["app:x"]}
    keys = [await gateway.mint(scoped),
            await gateway.mint({"actions": ["pull"], "categories": ["auth"]},
                               {**scoped, "effect": "deny"})]  # fmt: skip
    reader = await gateway.mint(
        {"actions": ["keys.admin"], "categories": ["**"]},
        {"actions": ["pull"], "categories": ["auth"], "fields": {way: ["targets.urn"]}},
    )
    await gateway.send(event(id="1", targets=[{"urn": "app:x"}]))
    await gateway.send(event(id="2", targets=[{"urn": "app:y"}]))

    async def sampled(key: str, by: str) -> list[str]:
        path = f"/v1/keys/{key_id(key)}/document"
        answer = await gateway.get(path, key=by, headers={"Accept": "application/json"})
        return [one["id"] for one in answer.json()["samples"]]

    assert [await sampled(key, gateway.admin) for key in keys] == [["1"], ["2"]]
    assert [await sampled(key, reader) for key in keys] == [[], []]


async def resolved(gateway: Gateway, key: str, pseudonym: str, by: str = "", **more: str) -> Any:
    body = {"key": key_id(key), "pseudonym": pseudonym, "reason": "incident 7", **more}
    answer = await gateway.post("/v1/pseudonyms/resolve", key=by or gateway.admin, json=body)
    assert answer.status == 200, answer.body
    return answer.json()


async def test_who_may_resolve_finds_a_value_at_every_path_in_what_it_may_pull(
    recording: Gateway,
) -> None:
    gateway = recording
    key = await recipient(gateway)
    await gateway.send(event(id="0", category="billing", actor={"id": "alice"}))
    await gateway.send(event(id="1", **MEMBERS))
    await gateway.send(event(id="2", **MEMBERS))
    first, second = (await gateway.pull(key))["events"]
    found = await resolved(gateway, key, first["actor"]["id"])
    billing = (await gateway.pull(gateway.admin, category="billing"))["events"][0]
    assert {one["path"]: (one["value"], one["first_cursor"]) for one in found["values"]} == {
        "actor.id": ("alice", billing["cursor"]),
        "data.user.id": ("alice", first["cursor"]),
        "targets.id": ("alice", first["cursor"]),
    }
    assert found["complete"]
    number = first["data"]["user"]["age"]
    [one] = (await resolved(gateway, key, number))["values"]
    assert one == {"path": "data.user.age", "value": "98765432109", "first_cursor": first["cursor"]}
    later = await resolved(gateway, key, number, after=first["cursor"])
    assert [one["first_cursor"] for one in later["values"]] == [second["cursor"]]
    # Of another key's domain it is no pseudonym of anything.
    other = await recipient(gateway)
    assert (await resolved(gateway, other, number))["values"] == []
    assert (await resolved(gateway, key, number, until="2020-01-01T00:00:00Z"))["values"] == []

    # Both are recorded with the reason, and without what was found.
    async def records() -> list[Any]:
        page = await gateway.pull(gateway.admin, category="gateway.keys", action="pseudonyms.*")
        return [one for one in page["events"] if one["action"] == "pseudonyms.resolved"]

    async with asyncio.timeout(patience()):
        while len(await records()) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    record = (await records())[0]
    assert record["reason"] == "incident 7"
    assert record["actor"]["id"] == key_id(gateway.admin)
    assert record["data"]["values"] == 3
    assert b"alice" not in orjson.dumps(await records())


async def test_nobody_resolves_what_they_may_not_pull_or_see(gateway: Gateway) -> None:
    key = await recipient(gateway, "actor.id")
    await gateway.send(event(id="1", actor={"id": "alice"}))
    pseudonym = (await gateway.pull(key))["events"][0]["actor"]["id"]
    resolving = {"actions": ["pseudonyms.resolve"], "categories": ["**"]}
    pulling: dict[str, Any] = {"actions": ["pull"], "categories": ["**"]}
    body = {"key": key_id(key), "pseudonym": pseudonym, "reason": "r"}
    for grants, action in (([pulling], "pseudonyms.resolve"), ([resolving], "pull")):
        answer = await gateway.post(
            "/v1/pseudonyms/resolve", key=await gateway.mint(*grants), json=body
        )
        assert answer.problem(403, "action_not_granted")["action"] == action
    for less in (
        {"categories": ["billing"]},
        *({"fields": {way: ["actor"]}} for way in ("mask", "drop", "pseudonymize")),
    ):
        by = await gateway.mint(resolving, {**pulling, **less})
        assert (await resolved(gateway, key, pseudonym, by))["values"] == []
    by = await gateway.mint(resolving, pulling)
    [found] = (await resolved(gateway, key, pseudonym, by))["values"]
    assert found["value"] == "alice"


async def test_what_cannot_be_resolved_is_told_apart(gateway: Gateway) -> None:
    key = await recipient(gateway)
    pseudonym = "ps1_" + "a" * 26
    for change, status, code in (
        ({"pseudonym": "alice"}, 400, "invalid_request"),
        ({"pseudonym": "ps2_" + "a" * 26}, 404, "unknown_version"),
        ({"key": "unknown00000"}, 404, "unknown_key"),
        ({"reason": ""}, 400, "invalid_request"),
        ({"since": "tomorrow"}, 400, "invalid_request"),
        ({"after": "x"}, 400, "malformed_cursor"),
        ({"after": "elsewhere0-" + "0" * 20}, 410, "cursor_unknown"),
        ({"value": "alice"}, 400, "invalid_request"),
    ):
        body = {"key": key_id(key), "pseudonym": pseudonym, "reason": "r", **change}
        answer = await gateway.post("/v1/pseudonyms/resolve", key=gateway.admin, json=body)
        answer.problem(status, code)


async def test_a_forgotten_version_is_resolved_by_nobody_and_others_are(
    start: Start, shifted: ShiftedClock
) -> None:
    gateway = await start(shifted)
    key = await recipient(gateway, "actor.id")
    await gateway.send(event(id="1", actor={"id": "alice"}))
    await rotate(gateway, shifted)
    await gateway.send(event(id="2", actor={"id": "alice"}))
    old, new = (one["actor"]["id"] for one in (await gateway.pull(key))["events"])
    [found] = (await resolved(gateway, key, old))["values"]
    assert found["value"] == "alice"
    keyring = gateway.context.keyring
    change = pseudonym_secrets.forgotten(1, int(shifted.now() * 1_000_000))
    await gateway.context.key_store.update_notes(KIND, {NAME: change})
    held = keyring.pseudonyms
    await eventually(lambda: keyring.pseudonyms != held, "it is forgotten here")
    body = {"key": key_id(key), "pseudonym": old, "reason": "r"}
    answer = await gateway.post("/v1/pseudonyms/resolve", key=gateway.admin, json=body)
    answer.problem(409, "version_forgotten")
    [found] = (await resolved(gateway, key, new))["values"]
    assert found["value"] == "alice"
    shown = (await gateway.pull(key))["events"]
    assert [one["actor"]["id"] for one in shown] == ["***", new]
