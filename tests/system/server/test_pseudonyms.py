"""Pseudonyms as a recipient has them: on every way, over a rotation, and by which it can ask."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_client import event, key_id
from gateways import Gateway, ShiftedClock, Start
from open_streams import TRANSPORTS, open_stream

from gateway.access.keys import pseudonym_secrets
from gateway.access.keys.pseudonym_secrets import KIND, LEARN_MICROS, NAME
from tests.support.machine_time import eventually

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
