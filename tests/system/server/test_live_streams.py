"""`/v1/streams`: who listens, how far behind; and the end of a stream by an operator."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from ipaddress import ip_network
from typing import Any

import pytest
from gateway_client import event, key_id
from gateways import Gateway, Start
from open_streams import TRANSPORTS, open_stream

from gateway.fleet.live_streams import LiveStreamQuery
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.subscription import Subscription
from tests.support.loop_stops import longest_stop
from tests.support.machine_time import becomes
from tests.support.scripted_receiver import Received, Reply, scripted_receiver

MEMBERS = [
    "id", "key", "name", "owner", "transport", "address", "client", "replica", "worker",
    "opened_at", "state", "cursor", "lag_events", "lag_seconds", "sent_events", "sent_bytes",
    "unsent_bytes", "parameters", "ends_at",
]  # fmt: skip
ON_CALL = {"actions": ["ops.read", "ops.act"], "categories": ["**"]}
READING = {"actions": ["stream", "pull"], "categories": ["**"]}


@pytest.fixture
async def operator(gateway: Gateway) -> str:
    return await gateway.mint(ON_CALL, name="on call")


async def listed(gateway: Gateway, by: str, **params: str) -> list[dict[str, Any]]:
    answer = await gateway.get("/v1/streams", key=by, params=params)
    assert answer.status == 200, answer.body
    document = answer.json()
    assert (document["partial"], document["missing"]) == (False, [])
    return list(document["streams"])


async def only(gateway: Gateway, by: str) -> dict[str, Any]:
    [stream] = await listed(gateway, by)
    return stream


async def end(gateway: Gateway, stream: dict[str, Any], key: str, reason: str = "") -> Any:
    return await gateway.post(f"/v1/streams/{stream['id']}/end", key=key, json={"reason": reason})


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stream_is_shown_with_what_it_was_sent(
    gateway: Gateway, operator: str, transport: str
) -> None:
    reader = await gateway.mint(READING, name="siem", owner="soc")
    stream = await open_stream(
        gateway, transport, reader, category="auth.**", headers={"User-Agent": "probe/1"}
    )
    await gateway.send(event(category="auth.x"), event(category="other.x"))
    await stream.take(1)
    await gateway.tail_reaches(gateway.context.log.head)
    shown = await only(gateway, operator)
    assert list(shown) == MEMBERS
    assert (shown["key"], shown["name"], shown["owner"]) == (key_id(reader), "siem", "soc")
    counted_as = {"audit.v1.lines": "audit.v1"}.get(transport, transport)
    assert (shown["transport"], shown["client"]) == (counted_as, "probe/1")
    assert (shown["address"], shown["worker"], shown["state"]) == ("127.0.0.1", 0, "live")
    assert (shown["lag_events"], shown["lag_seconds"]) == (0, 0.0)
    assert (shown["sent_events"], shown["unsent_bytes"]) == (1, 0)
    assert shown["sent_bytes"] > 100
    assert shown["parameters"]["category"] in ("auth.**", ["auth.**"])
    assert shown["ends_at"] > shown["opened_at"]
    stream.close()


async def test_what_was_sent_is_counted_from_the_time_a_stream_was_there(
    gateway: Gateway, operator: str
) -> None:
    first = await open_stream(gateway, "sse")
    await gateway.send(event(data={"text": "x" * 1000}))
    await first.take(1)
    second = await open_stream(gateway, "sse")
    await gateway.send(event())
    await first.take(1)
    await second.take(1)
    await gateway.tail_reaches(gateway.context.log.head)
    long, short = await listed(gateway, operator, order="bytes")
    assert (long["sent_events"], short["sent_events"]) == (2, 1)
    assert short["sent_bytes"] + 1000 < long["sent_bytes"] < 3000
    # As those that are served from the log.
    for subscription in list(gateway.context.hub.subscriptions):
        gateway.context.hub.move_to_replay(subscription)
    assert [one["sent_bytes"] for one in await listed(gateway, operator, order="bytes")] == [
        long["sent_bytes"], short["sent_bytes"],
    ]  # fmt: skip
    first.close()
    second.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_ended_stream_says_4005_and_is_recorded_with_the_reason(
    gateway: Gateway, operator: str, transport: str
) -> None:
    reader = await gateway.mint(READING, name="siem")
    stream = await open_stream(gateway, transport, reader)
    shown = await only(gateway, operator)
    ended = await end(gateway, shown, operator, "it hammers the store")
    assert (ended.status, ended.json()["id"]) == (200, shown["id"])
    last = await stream.to_end()
    assert (last["code"], last["reason"]) == (4005, "ended_by_operator")
    assert last["cursor"] == shown["cursor"]
    assert last.get("reconnect", True)
    assert await listed(gateway, operator) == []
    (await end(gateway, shown, operator)).problem(404, "unknown_stream")
    # It may come back at once: to keep it out, its key is suspended.
    again = await open_stream(gateway, transport, reader, after=last["cursor"])
    again.close()
    auditor = await gateway.mint(roles=["auditor"])

    async def recorded() -> list[Any]:
        return list((await gateway.pull(auditor, action="stream.ended"))["events"])

    [record] = await becomes(recorded, len)
    assert (record["category"], record["actor"]["id"]) == ("gateway.keys", key_id(operator))
    assert record["reason"] == "it hammers the store"
    assert {one["urn"] for one in record["targets"]} == {
        f"key:{key_id(reader)}", f"stream:{shown['id']}",
    }  # fmt: skip
    assert (record["data"]["code"], record["data"]["cursor"]) == (4005, shown["cursor"])
    await gateway.context.access_log.flush()
    await gateway.tail_reaches(gateway.context.log.head)
    closed = (await gateway.pull(auditor, action="stream.closed", actor=key_id(reader)))["events"]
    assert "ended_by_operator" in {one["reason"] for one in closed}


async def test_without_ops_read_only_ones_own_streams_are_shown(gateway: Gateway) -> None:
    mine, other = await gateway.mint(READING), await gateway.mint(READING)
    streams = [await open_stream(gateway, "sse", key) for key in (mine, mine, other)]
    assert {one["key"] for one in await listed(gateway, mine)} == {key_id(mine)}
    assert len(await listed(gateway, mine, key=key_id(mine))) == 2
    refused = await gateway.get("/v1/streams", key=mine, params={"key": key_id(other)})
    assert refused.problem(403, "action_not_granted")["action"] == "ops.read"
    [one, _] = await listed(gateway, mine)
    (await end(gateway, one, mine)).problem(403, "action_not_granted")
    reads_no_streams = await gateway.mint({"actions": ["ops.act"], "categories": ["**"]})
    (await gateway.get("/v1/streams", key=reads_no_streams)).problem(403, "action_not_granted")
    for stream in streams:
        stream.close()


async def test_streams_are_chosen_by_each_parameter(gateway: Gateway, operator: str) -> None:
    acme = await gateway.mint({**READING, "tenants": ["acme"]}, name="acme")
    every = await gateway.mint(READING, name="every")
    async with AsyncExitStack() as stack:
        for transport, key, params in (
            ("sse", acme, {}), ("ndjson", every, {"tenant": "globex"}), ("audit.v1", every, {}),
        ):  # fmt: skip
            stream = await open_stream(gateway, transport, key, **params)
            stack.callback(stream.close)

        async def chosen(**params: str) -> list[tuple[str, str]]:
            found = await listed(gateway, operator, order="opened", **params)
            return [(one["name"], one["transport"]) for one in found]

        sse, ndjson, websocket = ("acme", "sse"), ("every", "ndjson"), ("every", "audit.v1")
        assert await chosen() == [sse, ndjson, websocket]
        assert await chosen(key=key_id(acme)) == [sse]
        assert await chosen(tenant="acme") == [sse, websocket]
        assert await chosen(tenant="globex") == [ndjson, websocket]
        assert await chosen(transport="audit.v1") == [websocket]
        assert await chosen(state="stalled") == []
        replica = (await listed(gateway, operator))[0]["replica"]
        assert await chosen(replica=replica) == [sse, ndjson, websocket]
        assert await chosen(replica="elsewhere") == []
        assert await chosen(limit="2") == [sse, ndjson]
        answer = await gateway.get("/v1/streams", key=operator, params={"limit": "1"})
        assert answer.json()["total"] == 3
    for wrong in ({"order": "name"}, {"state": "dead"}, {"transport": "smtp"}, {"limit": "0"},
                  {"limit": "1001"}, {"key": ""}, {"limit": "x"}):  # fmt: skip
        refused = await gateway.get("/v1/streams", key=operator, params=wrong)
        assert refused.problem(400, "invalid_request")["parameter"] == next(iter(wrong))
    twice = [("state", "live"), ("state", "stalled")]
    (await gateway.get("/v1/streams", key=operator, params=twice)).problem(400, "invalid_request")


async def test_one_that_takes_nothing_is_behind_and_stalls(start: Start) -> None:
    gateway = await start(stream={"buffer_bytes": 65536})
    operator = await gateway.mint(ON_CALL)
    quick = await open_stream(gateway, "sse")
    slow = await open_stream(gateway, "ndjson", receive_buffer=4096, from_="start")
    text = "x" * 60_000
    for number in range(100):
        await gateway.send(event(id=f"e{number}", data={"text": text}))
    await quick.take(100)

    await becomes(lambda: listed(gateway, operator, state="stalled"), len)
    behind, level = await listed(gateway, operator)
    assert (behind["transport"], behind["state"]) == ("ndjson", "stalled")
    assert "peers_stalled" in await gateway.reasons()
    assert behind["unsent_bytes"] > 0
    # The gateway's own records, which come in between, are events of the log, too.
    assert behind["lag_events"] >= 100 - behind["sent_events"] > 0
    assert level["transport"] == "sse"
    assert level["lag_events"] < behind["lag_events"]
    # From the event at its cursor to the newest.
    auditor = await gateway.mint(roles=["auditor"])
    events = (await gateway.pull(auditor, category="auth", limit="1000"))["events"]
    recorded = {one["cursor"]: one["recorded_at"] for one in events}
    assert behind["cursor"] in recorded
    assert behind["lag_seconds"] >= 0
    most, _ = await listed(gateway, operator, order="bytes")
    assert most["transport"] == "sse"
    slow.close()
    quick.close()


async def test_the_seconds_of_a_lag_are_those_between_two_events(
    start: Start, shifted: Any
) -> None:
    gateway = await start(shifted)
    operator = await gateway.mint(ON_CALL)
    await gateway.send(event(id="first"))
    shifted.shift += 30
    await gateway.send(event(id="second"))
    reads = gateway.context.live_streams
    stream = await open_stream(gateway, "sse")
    [subscription] = gateway.context.hub.subscriptions
    first = (await gateway.pull(category="auth"))["events"][0]
    gateway.context.hub.move_to_replay(subscription)
    subscription.cursor = int(first["cursor"].rpartition("-")[2])
    shown = (await reads.all(LiveStreamQuery())).streams
    assert 29 <= shown[0].lag_seconds < 60
    assert shown[0].state == "replaying"
    assert operator
    stream.close()


async def test_addresses_clients_and_parameters_have_the_masks_of_who_asks(
    gateway: Gateway,
) -> None:
    stream = await open_stream(gateway, "sse", tenant="acme", headers={"User-Agent": "probe/1"})
    records = {"actions": ["pull"], "categories": ["gateway.access"]}

    async def seen(*grants: dict[str, Any], **params: str) -> list[tuple[Any, Any, Any]]:
        key = await gateway.mint(ON_CALL, *grants)
        found = await listed(gateway, key, **params)
        return [(one["address"], one["client"], one["parameters"]) for one in found]

    asked = {"tenant": ["acme"]}
    [(address, client, parameters)] = await seen()
    assert (address, client) == ("127.0.0.1", "probe/1")
    assert parameters in (asked, {"tenant": "acme"})
    assert await seen({**records, "fields": {"mask": ["source.ip"]}}) == [
        ("***", "probe/1", parameters)
    ]
    assert await seen({**records, "fields": {"drop": ["source"]}}) == [(None, None, parameters)]
    denied = {**records, "effect": "deny"}
    assert await seen(records, denied) == [(None, None, None)]
    hidden = {**records, "fields": {"drop": ["data.parameters"]}}
    assert await seen(hidden) == [(address, client, None)]
    # What is hidden does not decide what is shown.
    assert await seen(hidden, tenant="acme") == []
    assert await seen(tenant="acme") == [(address, client, parameters)]
    stream.close()


async def test_an_unknown_stream_is_404(gateway: Gateway, operator: str) -> None:
    stream = await open_stream(gateway, "sse")
    shown = await only(gateway, operator)
    own = shown["id"].partition("-")[0]
    for name in ("x", "0-0", "zzzzzzzz-1", own, f"{own}-", f"{own}-fffff", "%2e%2e%2f"):
        answer = await gateway.post(f"/v1/streams/{name}/end", key=operator, json={})
        answer.problem(404, "unknown_stream")
    stream.close()


async def test_the_stream_of_a_destination_is_shown_and_not_ended(start: Start) -> None:
    gateway = await start(destinations={"allow_networks": (ip_network("127.0.0.0/8"),)})
    operator = await gateway.mint(ON_CALL)

    def takes(_: Received) -> Reply:
        return Reply(204)

    async with scripted_receiver(takes) as receiver:
        reader = await gateway.mint(READING)
        body = {
            "name": "siem", "type": "http", "key": key_id(reader),
            "settings": {"url": f"http://127.0.0.1:{receiver.port}/in"},
        }  # fmt: skip
        made = await gateway.post("/v1/destinations", key=gateway.admin, json=body)
        assert made.status == 201, made.body
        [shown] = await becomes(lambda: listed(gateway, operator), len)
        assert (shown["transport"], shown["key"]) == ("destination", key_id(reader))
        (await end(gateway, shown, operator)).problem(409, "destination_stream")
        deleted = await gateway.request("DELETE", "/v1/destinations/siem", key=gateway.admin)
        assert deleted.status == 204


async def test_a_thousand_streams_are_listed_without_holding_the_loop(gateway: Gateway) -> None:
    hub, streams = gateway.context.hub, gateway.context.live_streams
    first = await open_stream(gateway, "sse")
    [one] = hub.subscriptions
    query = StreamQuery(one.interest.query.wanted, one.interest.query.view)
    made = []
    for _ in range(1000):
        copy = Subscription(Interest(query, one.interest.wire), one.sink, one.key_id, one.cursor)
        copy.opened = one.opened
        made.append(copy)
        hub.subscriptions[copy] = None
    try:
        found, stop = await longest_stop(streams.all(LiveStreamQuery(limit=1000)))
    finally:
        for copy in made:
            del hub.subscriptions[copy]
    assert (len(found.streams), found.total) == (1000, 1001)
    assert stop < 20
    await asyncio.sleep(0)
    first.close()
