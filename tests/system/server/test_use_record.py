"""The record of every use, over real sockets: what a security team can read of it afterwards."""

from __future__ import annotations

import asyncio
import time

import pytest
from gateway_client import event, key_id, with_checksum
from gateways import Gateway, Start
from open_streams import TRANSPORTS, Refused, open_stream
from use_record import ACCESS, about, told

from tests.support.machine_time import Stopwatch

# Reading


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stream_is_recorded_when_it_opens_and_with_what_it_delivered_when_it_ends(
    recording: Gateway, transport: str
) -> None:
    key = await recording.reader_key()
    before = (await recording.pull(key))["cursor"]
    watch = Stopwatch()
    stream = await open_stream(
        recording, transport, key, headers={"User-Agent": "forwarder/7"},
        category="auth", filter='outcome == "unknown"',
    )  # fmt: skip
    sent = [(await recording.send(event(id=f"e{n}")))["last_cursor"] for n in range(3)]
    await recording.send(event(category="billing"))
    await stream.take(3)
    [opened] = await told(recording, action="stream.opened", resource=about(key))
    assert (opened["tenant"], opened["category"], opened["outcome"]) == (
        "gateway", ACCESS, "success",
    )  # fmt: skip
    assert opened["actor"] == {
        "type": "key", "id": key_id(key), "name": "test", "key_id": key_id(key),
    }  # fmt: skip
    assert opened["source"] == {"ip": "127.0.0.1", "user_agent": "forwarder/7"}
    data = opened["data"]
    assert data["parameters"] == [{"category": ["auth"], "filter": ['outcome == "unknown"']}]
    assert data["transport"] == (transport if transport in ("sse", "ndjson") else data["transport"])
    assert data["ranges"][0]["after"] >= before
    stream.close()
    [closed] = await told(recording, action="stream.closed", resource=about(key))
    assert closed["reason"] in ("client_gone", "client_closed"), (
        "a WebSocket has no half-closed end"
    )
    assert closed["data"]["events"] == 3
    assert closed["data"]["ranges"][0]["after"] == data["ranges"][0]["after"]
    assert closed["data"]["ranges"][0]["to"] >= sent[-1]
    assert 0 < closed["data"]["seconds"] <= watch.elapsed + 0.1
    assert closed["data"]["parameters"] == data["parameters"]


async def test_why_a_stream_ended_is_recorded(recording: Gateway) -> None:
    await recording.send(event(), event(), event())
    key = await recording.reader_key()
    await (await open_stream(recording, "sse", key, from_="start", limit="2")).to_end()
    stream = await open_stream(recording, "ndjson", key)
    await recording.revoke(key)
    await stream.to_end()
    ends = await told(recording, 2, action="stream.closed", resource=about(key))
    assert [(end["reason"], end["data"]["events"]) for end in ends] == [
        ("complete", 2), ("key_revoked", 0),
    ]  # fmt: skip
    key = await recording.reader_key()
    rude = await open_stream(recording, "audit.v1", key)
    rude.write(b"\x81\x05hello")
    await rude.next("end")
    [end] = await told(recording, action="stream.closed", resource=about(key))
    assert end["reason"] == "protocol_error"


async def test_a_page_is_recorded_with_its_range_and_an_event_with_its_id(
    recording: Gateway,
) -> None:
    sent = await recording.send(event(id="a"), event(id="b"), event(id="c"))
    key = await recording.reader_key()
    page = await recording.pull(key, limit="2", from_="start")
    await recording.pull(key, after=page["cursor"], limit="2")
    answer = await recording.get("/v1/events/b", key=key)
    assert answer.status == 200
    await told(
        recording, action="events.pulled", resource=about(key),
        where=lambda one: one["data"]["ranges"][-1]["to"] >= sent["last_cursor"],
    )  # fmt: skip
    pulled = await told(recording, action="events.pulled", resource=about(key))
    assert sum(one["data"]["events"] for one in pulled) == 3
    assert pulled[0]["data"]["ranges"][0]["after"] < sent["first_cursor"]
    assert (
        max(part["to"] for one in pulled for part in one["data"]["ranges"]) >= sent["last_cursor"]
    )
    [read] = await told(recording, action="event.read", resource=about(key))
    assert [target["urn"] for target in read["targets"]] == ["event:default/b", about(key)]


async def test_what_is_sent_is_recorded_with_where_it_stands(recording: Gateway) -> None:
    key = await recording.mint({"actions": ["ingest"], "categories": ["**"]})
    await recording.send(event(id="a"), event(id="b"), key=key)
    sent = await recording.send(event(id="b"), event(id="c"), key=key)
    found = await told(
        recording, action="events.ingested", resource=about(key),
        where=lambda one: one["data"]["ranges"][-1]["to"] >= sent["last_cursor"],
    )  # fmt: skip
    assert sum(one["data"]["count"] for one in found) <= 2
    everything = await told(recording, action="events.ingested", resource=about(key))
    assert sum(one["data"]["events"] for one in everything) == 3
    assert sum(one["data"].get("duplicates", 0) for one in everything) == 1


async def test_requests_that_ingest_do_not_double_the_log(start: Start) -> None:
    gateway = await start(record={"delay": 0})
    key = await gateway.mint({"actions": ["ingest"], "categories": ["**"]})
    for n in range(100):
        await gateway.send(event(data={"n": n}), key=key)
    await gateway.context.access_log.flush()
    found = await told(gateway, action="events.ingested", resource=about(key))
    assert sum(one["data"]["count"] for one in found) == 100
    assert len(found) <= 2


# Refusals


async def test_every_refusal_is_recorded_with_its_reason(recording: Gateway) -> None:
    key = await recording.mint({"actions": ["pull"], "categories": ["auth"]})
    await recording.get("/v1/keys", key=key)
    with pytest.raises(Refused):
        await open_stream(recording, "sse", key)
    await recording.get("/v1/events?tennant=x", key=key)
    await recording.revoke(key)
    await recording.get("/v1/events", key=key)
    found = await told(
        recording, 4, resource=about(key), category=ACCESS,
        where=lambda one: one["outcome"] != "success",
    )  # fmt: skip
    shown = {
        (
            one["action"],
            one["outcome"],
            one["reason"],
            one["data"]["route"],
            one["data"]["attempted"],
        )
        for one in found
    }
    assert shown == {
        ("request.denied", "denied", "action_not_granted", "GET /v1/keys", "keys.read"),
        ("request.denied", "denied", "action_not_granted", "GET /v1/stream", "stream"),
        ("request.failed", "failure", "unknown_parameter", "GET /v1/events", "pull"),
        ("request.denied", "denied", "key_revoked", "GET /v1/events", "pull"),
    }


async def test_keys_that_are_not_known_are_recorded_by_address(recording: Gateway) -> None:
    key = await recording.reader_key()
    body = key[:18] + "x" * 43
    forged = with_checksum(body)
    for sent in (None, "rubbish", forged, forged):
        assert (await recording.get("/v1/events", key=sent)).status == 401
    found = await told(recording, 2, outcome="denied", category=ACCESS)
    await recording.context.access_log.flush()
    found = await told(recording, 2, outcome="denied", category=ACCESS)
    counts: dict[str, int] = {}
    for one in found:
        assert "actor" not in one
        assert one["source"]["ip"] == "127.0.0.1"
        counts[one["reason"]] = counts.get(one["reason"], 0) + one["data"]["count"]
    assert counts == {"missing_key": 1, "invalid_key": 3}
    [claimed] = [one for one in found if "targets" in one]
    assert claimed["targets"][0]["urn"] == about(key), "somebody knows the id of this key"
    assert forged[-20:] not in str(found)


async def test_a_key_in_a_url_is_recorded_without_its_secret(recording: Gateway) -> None:
    key = await recording.reader_key()
    assert (await recording.get(f"/v1/events?key={key}", key=None)).status == 400
    [found] = await told(recording, action="request.failed", resource=about(key))
    assert found["reason"] == "key_in_url"
    assert key[20:] not in str(found)


async def test_no_record_holds_a_key_or_a_ticket(recording: Gateway) -> None:
    key = await recording.reader_key()
    ticket = (await recording.post("/v1/tickets", key=key, json={})).json()["ticket"]
    headers = {"User-Agent": f"curl {key} {ticket}"}
    await recording.get("/v1/events", key=key, headers=headers)
    stream = await recording.post(
        "/v1/stream", key=key, json={"filter": f'id == "{key}"', "follow": False}
    )
    assert stream.status == 200
    await told(recording, action="events.pulled", resource=about(key))
    await told(recording, action="stream.closed", resource=about(key))
    text = str((await recording.pull(recording.admin, category="gateway.**"))["events"])
    assert key[18:] not in text
    assert ticket[5:40] not in text
    assert "curl alpk_***" in text


# Whose record it is


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"category": "gateway"}, "category"),
        ({"category": "gateway.access"}, "category"),
        ({"category": "gateway.keys", "tenant": "acme"}, "category"),
        ({"tenant": "gateway"}, "tenant"),
    ],
)
async def test_nobody_forges_the_gateways_own_records(
    recording: Gateway, members: dict[str, str], path: str
) -> None:
    everything = {"actions": ["ingest"], "categories": ["**", "gateway.**"]}
    for key in (recording.admin, await recording.mint(everything)):
        answer = await recording.post(
            "/v1/events", key=key, json=[event(id="before"), event(id="forged", **members)]
        )
        [error] = answer.problem(422, "invalid_events")["errors"]
        assert (error["index"], error["path"]) == (1, path)
        assert "reserved" in error["reason"]
    assert (await recording.pull(recording.admin, category="auth"))["events"] == []
    assert (await recording.get("/v1/events/forged", key=recording.admin)).status == 404


async def test_names_that_only_look_like_the_gateways_are_free(recording: Gateway) -> None:
    await recording.send(
        event(category="gateways"), event(category="x.gateway"), event(tenant="gateway2")
    )


async def test_the_record_is_seen_by_name_only(recording: Gateway) -> None:
    everything = await recording.reader_key()
    named = await recording.reader_key(categories=["gateway.access"])
    await told(recording, action="requested")
    assert (await recording.pull(everything))["events"] == []
    assert {one["category"] for one in (await recording.pull(named))["events"]} == {ACCESS}


# No feedback


async def test_a_long_poll_of_the_record_waits_though_it_is_recorded_itself(
    recording: Gateway,
) -> None:
    key = await recording.reader_key(categories=["gateway.access"])
    selectors = {"category": "gateway.access", "action": "events.pulled"}
    cursor = (await recording.pull(key, **selectors))["cursor"]
    await told(recording, action="events.pulled", resource=about(key))
    # The admin's own pulls of `told` are being merged: none of them comes in later.
    await recording.context.access_log.flush()
    cursor = (await recording.pull(key, **selectors, after=cursor, limit="10000"))["cursor"]
    watch = Stopwatch()
    page = await recording.pull(key, **selectors, after=cursor, wait="2")
    assert watch.elapsed >= 1.9
    assert {one["actor"]["key_id"] for one in page["events"]} <= {key_id(key)}


async def test_clients_that_read_the_record_do_not_fill_it(recording: Gateway) -> None:
    keys = [await recording.reader_key(categories=["gateway.**"]) for _ in range(2)]
    stream = await open_stream(recording, "ndjson", keys[0], category="gateway.**")
    head = recording.context.log.head
    until = time.monotonic() + 4

    async def poll(key: str) -> int:
        polls = 0
        cursor = None
        while time.monotonic() < until:
            position = {"after": cursor} if cursor else {"from_": "start"}
            page = await recording.pull(key, wait="2", **position)
            cursor = page["cursor"]
            polls += 1
        return polls

    polls = await asyncio.gather(*map(poll, keys))
    grown = recording.context.log.head - head
    # A second, two, four: each client's pulls are merged for longer and longer.
    assert grown <= 12, (grown, polls)
    assert max(polls) <= 20
    stream.close()


async def test_a_stream_of_the_record_sees_uses_as_they_are_made(recording: Gateway) -> None:
    key = await recording.reader_key()
    watcher = await recording.reader_key(categories=["gateway.access"])
    stream = await open_stream(recording, "sse", watcher, resource=about(key))
    await recording.pull(key)
    watch = Stopwatch()
    seen = await stream.event()
    assert watch.seconds < 2
    assert (seen["action"], seen["actor"]["key_id"]) == ("events.pulled", key_id(key))
    await asyncio.sleep(0.7)
    watched = await told(recording, resource=about(watcher), category=ACCESS)
    assert [one["action"] for one in watched] == ["stream.opened"], "nothing per delivered event"
