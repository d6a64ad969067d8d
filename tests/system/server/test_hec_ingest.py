"""Splunk's HTTP Event Collector: what its senders send, and the answers that they understand."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from typing import Any

import pytest
from gateway_client import Answer, key_id
from gateways import Gateway, Start

from gateway.errors import Unavailable
from gateway.http.receivers.ack_ids import AckIds

COLLECTOR = "/services/collector"
CHANNEL = "fe0ecfad-13d5-401b-847d-77833bd77131"
OTHER = "11111111-13d5-401b-847d-77833bd77131"
WRITER = {"actions": ["ingest"], "categories": ["**"]}
EVENT = b'{"event":{"category":"auth","action":"login","id":"%d"}}'


async def send(
    gateway: Gateway, body: bytes, path: str = "/event", key: str = "", **headers: str
) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named.setdefault("Authorization", f"Splunk {key or gateway.admin}")
    return await gateway.post(COLLECTOR + path, key=None, data=body, headers=named)


async def stored(gateway: Gateway, **selection: str) -> list[Any]:
    params = {"limit": "1000", **selection}
    answer = await gateway.get("/v1/events", key=gateway.admin, params=params)
    return list(answer.json()["events"])


def said(answer: Answer) -> tuple[int, int, str]:
    found = answer.json()
    return answer.status, found["code"], found["text"]


async def test_stacked_events_are_stored_and_a_repeat_adds_none(gateway: Gateway) -> None:
    body = b"".join(EVENT % n for n in range(3)) + b'\n{"event":"a text","time":1767225600}'
    for _ in range(2):
        for path in ("", "/event", "/1.0", "/event/1.0"):
            assert said(await send(gateway, body, path)) == (200, 0, "Success")
    packed = await send(gateway, gzip.compress(body), Content_Encoding="gzip")
    assert said(packed) == (200, 0, "Success")
    assert [one["id"] for one in await stored(gateway, category="auth")] == ["0", "1", "2"]
    [text] = await stored(gateway, category="splunk_hec")
    assert (text["time"], text["reason"]) == ("2026-01-01T00:00:00.000000Z", "a text")


@pytest.mark.parametrize("scheme", ["Splunk", "splunk", "Bearer", "Basic"])
async def test_the_key_is_taken_as_splunk_takes_a_token(gateway: Gateway, scheme: str) -> None:
    key = gateway.admin
    text = base64.b64encode(f"x:{key}".encode()).decode() if scheme == "Basic" else key
    answer = await send(gateway, EVENT % 1, Authorization=f"{scheme} {text}")
    assert said(answer) == (200, 0, "Success")


async def test_every_refusal_is_one_of_splunks(gateway: Gateway) -> None:
    async def refused(body: bytes = EVENT % 1, path: str = "/event", **more: str) -> Any:
        return said(await send(gateway, body, path, **more))

    answer = await gateway.post(f"{COLLECTOR}/event", key=None, data=EVENT % 1)
    assert said(answer) == (401, 2, "Token is required")
    assert await refused(Authorization="nonsense") == (401, 3, "Invalid authorization")
    assert await refused(Authorization="Splunk x") == (403, 4, "Invalid token")
    ended = await gateway.mint(WRITER)
    await gateway.revoke(ended)
    assert await refused(key=ended) == (403, 1, "Token disabled")
    assert await refused(key=await gateway.reader_key()) == (403, 1, "Token disabled")
    assert await refused(b" \n") == (400, 5, "No data")
    assert await refused(b"{") == (400, 6, "Invalid data format")
    assert await refused(b"{}") == (400, 12, "Event field is required")
    assert await refused(b'{"event":""}') == (400, 13, "Event field cannot be blank")
    assert (await refused(b'{"event":1,"fields":[]}'))[1] == 15
    assert await refused(b'{"acks":[1]}', "/ack") == (400, 10, "Data channel is missing")
    assert await refused(path="/event?channel=x") == (400, 11, "Invalid data channel")
    assert (await refused(path=f"/event?token={gateway.admin}"))[:2] == (400, 16)
    assert (await refused(b'{"acks":{}}', f"/ack?channel={CHANNEL}"))[:2] == (400, 6)
    assert (await refused(b"x", Content_Encoding="br"))[:2] == (415, 6)


async def test_an_event_that_is_refused_costs_only_itself(gateway: Gateway) -> None:
    good = [EVENT % n for n in range(19)]
    wrong = b'{"event":{"category":"auth","action":"login","severity":9}}'
    answer = await send(gateway, b"".join([*good[:7], wrong, *good[7:]]))
    found = answer.json()
    assert (answer.status, found["code"], found["invalid-event-number"]) == (400, 6, 7)
    assert "severity" in found["detail"]
    assert len(await stored(gateway, category="auth")) == 19
    [kept] = await stored(gateway, category="gateway.rejected")
    assert "severity" in kept["data"]["path"]
    broken = b"\n".join([EVENT % 20, b'{"event":{"a"', EVENT % 21])
    answer = await send(gateway, broken)
    assert answer.json()["invalid-event-number"] == 1
    assert len(await stored(gateway, category="auth")) == 21


async def test_what_is_outside_of_the_key_is_refused_and_the_rest_is_stored(
    gateway: Gateway,
) -> None:
    bound = {"actions": ["ingest"], "categories": ["auth"], "tenants": ["acme"]}
    key = await gateway.mint(bound)
    body = b'{"event":"a","fields":{"tenant":"other","category":"other"}}' + EVENT % 1
    assert said(await send(gateway, body, key=key))[1] == 0
    found = await stored(gateway, category="auth")
    assert {one["tenant"] for one in found} == {"acme"}, "what the key is bound to"
    foreign = b'{"event":{"category":"auth","action":"x","tenant":"other"}}'
    answer = await send(gateway, EVENT % 2 + foreign, key=key)
    assert answer.json()["invalid-event-number"] == 1
    assert {one["tenant"] for one in await stored(gateway, category="auth")} == {"acme"}


async def test_records_that_name_their_source_are_of_that_source(gateway: Gateway) -> None:
    entry = {"uuid": "1", "eventType": "user.session.start", "published": 0}
    for event in (entry, json.dumps(entry)):
        body = json.dumps({"event": event, "sourcetype": "OktaIM2:log"}).encode()
        assert said(await send(gateway, body))[1] == 0
    body = json.dumps({"event": entry | {"uuid": "2"}}).encode()
    assert said(await send(gateway, body, "/event?source=okta"))[1] == 0
    await gateway.post("/v1/ingest/okta", key=gateway.admin, json=entry)
    assert [one["id"] for one in await stored(gateway, category="okta.**")] == ["1", "2"]


async def test_lines_are_events_of_their_own(gateway: Gateway) -> None:
    line = b"<38>1 2026-01-01T00:00:00Z web-1 su 1 - - session opened for user root"
    await send(gateway, line + b"\n" + line, "/raw?sourcetype=syslog&source=/var/log/auth.log")
    [event] = await stored(gateway, category="syslog.su")
    assert event["targets"][0]["urn"] == "host:web-1"
    answer = await send(gateway, b'one\ntwo\n{"a":1}\n', f"/raw/1.0?host=h&channel={CHANNEL}")
    assert answer.json()["ackId"] > 0
    found = await stored(gateway, category="splunk_hec")
    assert [one["data"]["event"] for one in found] == ["one", "two", {"a": 1}]
    assert {one["data"]["host"] for one in found} == {"h"}


async def test_what_is_acknowledged_is_durable_and_was_sent_with_this_key_and_channel(
    gateway: Gateway,
) -> None:
    async def acks(ids: list[int], channel: str = CHANNEL, key: str = "") -> dict[str, bool]:
        body = json.dumps({"acks": ids}).encode()
        answer = await send(gateway, body, "/ack", key, X_Splunk_Request_Channel=channel)
        return dict(answer.json()["acks"])

    given = []
    for number in range(3):
        path = f"/event?channel={CHANNEL}" if number else "/event"
        header = {} if number else {"X_Splunk_Request_Channel": CHANNEL.upper()}
        given.append((await send(gateway, EVENT % number, path, **header)).json()["ackId"])
    assert given == sorted(set(given))
    assert len(await stored(gateway, category="auth")) == 3
    assert await acks(given) == {str(one): True for one in given}
    assert await acks(given) == {str(one): True for one in given}, "nothing is forgotten"
    # A guess is right once in 4,096 times, and tells nobody anything.
    for found in (
        await acks(given, OTHER),
        await acks(given, key=await gateway.mint(WRITER)),
        await acks([one + 1 for one in given]),
    ):
        assert sum(found.values()) <= 1
    replica = AckIds(gateway.context.keyed, gateway.context.clock.now)
    assert replica.acknowledges(given[0], key_id(gateway.admin), CHANNEL)


async def test_nothing_is_acknowledged_that_was_not_stored(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    async def fail(batches: Any) -> Any:
        raise Unavailable("the write queue is full", code="write_queue_full")

    monkeypatch.setattr(AckIds, "new", lambda *parts: given.append(1) or 1)
    monkeypatch.setattr(gateway.context.writer, "append_together", fail)
    answer = await send(gateway, EVENT % 1, f"/event?channel={CHANNEL}")
    assert said(answer) == (503, 9, "Server is busy")
    assert answer.headers["Retry-After"] == "1"
    assert given == []


async def test_a_limit_is_told_as_a_busy_server(start: Start) -> None:
    gateway = await start()
    limits = {"requests_per_second": 1, "requests_burst": 1}
    key = await gateway.mint(WRITER, limits=limits)
    answers = await asyncio.gather(*(send(gateway, EVENT % n, key=key) for n in range(8)))
    codes = {said(one) for one in answers}
    assert (503, 9, "Server is busy") in codes
    assert codes <= {(503, 9, "Server is busy"), (200, 0, "Success")}


async def test_health_needs_no_key_and_tells_of_the_store(gateway: Gateway) -> None:
    for path in ("/health", "/health/1.0"):
        answer = await gateway.get(COLLECTOR + path, key=None)
        assert said(answer) == (200, 17, "HEC is healthy")
        gateway.context.ready = False
        answer = await gateway.get(COLLECTOR + path, key=None)
        assert said(answer) == (503, 18, "HEC is unhealthy, queues are full")
        gateway.context.ready = True


@pytest.mark.parametrize("path", ["/raw", "/event", "/event?of=native"])
async def test_identical_events_without_a_time_are_as_many_and_a_repeat_adds_none(
    gateway: Gateway, path: str
) -> None:
    path, _, native = path.partition("?")
    event = '{"category":"auth","action":"login"}' if native else '"same"'
    body = "same\nother\nsame\nsame" if path == "/raw" else f'{{"event":{event}}}' * 3
    for _ in range(2):
        assert said(await send(gateway, body.encode(), path))[1] == 0
    found = await stored(gateway, category="auth" if native else "splunk_hec")
    same = [one for one in found if native or one["data"]["event"] == "same"]
    assert (len(same), len({one["id"] for one in same})) == (3, 3)


async def test_identical_events_with_a_time_are_one(gateway: Gateway) -> None:
    await send(gateway, b'{"event":"same","time":1767225600}' * 2)
    assert len(await stored(gateway, category="splunk_hec")) == 1
