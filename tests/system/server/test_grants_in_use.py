"""Which grants are of use is told by what was read, to those who may see it."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_client import event, key_id
from gateways import Gateway, ShiftedClock, Start
from open_streams import open_stream
from test_authz import document, facts, simulated

READ = ["stream", "pull"]
AUTH = {"id": "auth", "actions": READ, "categories": ["auth.**"]}
BILLING = {"id": "billing", "actions": READ, "categories": ["billing.**"]}
SECRET = {"id": "secret", "actions": READ, "categories": ["**"], "resources": ["k8s:secret/**"]}
DAY = 86400


async def test_a_grant_that_nothing_was_asked_of_is_unused(gateway: Gateway) -> None:
    await gateway.send(event(category="auth.login"), event(category="billing.paid"))
    key = await gateway.mint(AUTH, BILLING)
    await gateway.pull(key, category="billing.**")
    await gateway.pull(key, filter='category == "billing.paid"')
    assert (await facts(gateway, key))["unused"] == ["auth"]
    found = await simulated(gateway, key, grants=[AUTH])
    assert (found["unused"], found["not_known"]) == (["auth"], [])
    [denied] = found["uses"]["would_be_denied"]
    assert (denied["action"], denied["reason_code"], denied["count"]) == (
        "pull", "event_not_granted", 2,
    )  # fmt: skip
    await gateway.pull(key)
    assert (await facts(gateway, key))["unused"] == []
    found = await simulated(gateway, key, grants=[AUTH])
    assert found["unused"] == []


async def test_an_event_read_by_its_id_uses_the_grant(gateway: Gateway) -> None:
    await gateway.send(event(id="a", category="auth.login"), event(id="b", category="billing.x"))
    key = await gateway.mint(AUTH, BILLING)
    assert (await gateway.get("/v1/events/b", key=key)).status == 200
    assert (await facts(gateway, key))["unused"] == ["auth"]


async def test_events_that_were_never_read_use_no_grant(gateway: Gateway) -> None:
    key = await gateway.mint(AUTH, BILLING)
    await gateway.send(event(category="auth.login"))
    await gateway.pull(key)
    await gateway.send(event(category="billing.paid"))
    assert (await facts(gateway, key))["unused"] == ["billing"]


async def test_a_stream_opened_long_ago_is_a_use_while_it_is_open_and_after(
    start: Start, shifted: ShiftedClock
) -> None:
    gateway = await start(shifted)
    key = await gateway.mint(AUTH, BILLING, expires_in="60d")
    stream = await open_stream(gateway, "ndjson", key)
    await gateway.context.access_log.flush()
    shifted.shift = 31 * DAY
    await gateway.send(event(id="late", category="auth.login"))
    assert (await stream.event())["id"] == "late"
    found = await facts(gateway, key)
    assert found["unused"] == ["billing"]
    proposal = await simulated(gateway, key, grants=[BILLING])
    assert proposal["unused"] == ["billing"]
    assert proposal["uses"]["would_be_denied"] == []
    nothing = await simulated(gateway, key, grants=[])
    assert [one["count"] for one in nothing["uses"]["would_be_denied"]] == [1]
    await gateway.revoke(key)
    await stream.to_end()
    assert gateway.context.hub.streams_of(key_id(key)) == ()
    assert (await facts(gateway, key))["unused"] == ["billing"]
    nothing = await simulated(gateway, key, grants=[])
    assert [one["count"] for one in nothing["uses"]["would_be_denied"]] == [1]


@pytest.mark.parametrize(
    ("reading", "not_known"),
    [
        ([], ["secret"]), ([{"actions": ["stream"], "categories": ["**"]}], ["secret"]),
        ([{"actions": ["pull"], "categories": ["**"], "fields": {"mask": ["targets.urn"]}}],
         ["secret"]),
        ([{"actions": ["pull"], "categories": ["**"], "tenants": ["acme"]}], ["secret"]),
        ([{"actions": ["pull"], "categories": ["**"]}], []),
    ],
)  # fmt: skip
async def test_grants_tell_nobody_of_events_that_it_may_not_see(
    gateway: Gateway, reading: list[dict[str, Any]], not_known: list[str]
) -> None:
    by = await gateway.mint({"actions": ["keys.admin", "usage.read"], "categories": ["**"]},
                            *reading)  # fmt: skip
    subject = await gateway.mint(SECRET)
    told = []
    for targets in ([], [{"urn": "k8s:secret/x"}]):
        await gateway.send(event(category="auth.login", targets=targets))
        await gateway.pull(subject)
        found = await facts(gateway, subject, by)
        proposed = await simulated(gateway, subject, by, grants=[SECRET])
        told.append((found["unused"], found["not_known"]))
        assert (proposed["unused"], proposed["not_known"]) == told[-1]
    assert told == ([([], not_known)] * 2 if not_known else [(["secret"], []), ([], [])])
    text = (await document(gateway, subject, "text/markdown", by)).body.decode()
    assert ("may not see all events" in text) == bool(not_known)


async def test_whoever_sees_no_events_is_told_of_grants_that_were_not_asked(
    gateway: Gateway,
) -> None:
    blind = await gateway.mint({"actions": ["usage.read"], "categories": ["**"]})
    subject = await gateway.mint(AUTH, {"id": "send", "actions": ["ingest"], "categories": ["x"]})
    found = await facts(gateway, subject, blind)
    assert (found["unused"], found["not_known"]) == (["auth", "send"], [])
    await gateway.pull(subject, category="auth.login")
    found = await facts(gateway, subject, blind)
    assert (found["unused"], found["not_known"]) == (["send"], ["auth"])
