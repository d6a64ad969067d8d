"""Unusual activity over real sockets: found in time, shown, marked, and with consequences."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import orjson
import pytest
from gateway_client import Answer, event, key_id
from gateways import Gateway, ShiftedClock, Start, finish_program
from open_streams import TRANSPORTS, Refused, open_stream
from use_record import ACCESS, KEYS, about, told

from gateway.streaming.live.subscription import State
from tests.support.machine_time import Stopwatch, patience

DENIED = "/v1/keys"
# Another network than 127.0.0.1 is of, on the same machine.
ELSEWHERE = "127.7.0.1"


async def found(gateway: Gateway, *signals: str, seconds: float = 4.0, **params: str) -> list[Any]:
    """The findings, once there is one of each of these signals."""
    deadline = time.monotonic() + patience(seconds)
    while True:
        answer = await gateway.get("/v1/findings", key=gateway.admin, params=params)
        assert answer.status == 200, answer.body
        findings: list[Any] = answer.json()["findings"]
        if set(signals) <= {one["signal"] for one in findings}:
            return findings
        assert time.monotonic() < deadline, f"{signals} in {findings}"
        await asyncio.sleep(0.02)


async def of_signal(gateway: Gateway, signal: str) -> Any:
    """The one finding of a signal, whatever else is found."""
    [one] = [one for one in await found(gateway, signal) if one["signal"] == signal]
    return one


async def deny(gateway: Gateway, key: str, times: int) -> None:
    for _ in range(times):
        assert (await gateway.get(DENIED, key=key)).status == 403


async def from_elsewhere(gateway: Gateway, key: str, path: str = "/v1/events") -> Answer:
    """A request from another network."""
    connector = aiohttp.TCPConnector(local_addr=(ELSEWHERE, 0))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(gateway.url + path, headers={"Authorization": f"Bearer {key}"}) as response,
    ):
        return Answer(response.status, response.headers, await response.read())


async def test_five_denials_are_a_finding_an_event_and_a_metric(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    await deny(gateway, key, 4)
    await gateway.context.detector.poll()
    assert await found(gateway) == []
    await deny(gateway, key, 1)
    [finding] = await found(gateway, "denials")
    assert finding["key"] == key_id(key)
    assert (finding["count"], finding["state"], finding["severity"]) == (5, "open", 3)
    assert finding["first_seen"] <= finding["last_seen"]
    assert finding["data"]["address"] == "127.0.0.1"
    page = await gateway.pull(gateway.admin, category="gateway.anomaly", wait="3")
    [told] = page["events"]
    assert told["data"]["finding"] == finding["id"]
    assert told["targets"][0]["urn"] == f"key:{key_id(key)}"
    assert await gateway.metric("findings_total") == 5


async def test_categories_are_forbidden_however_they_are_asked_for(gateway: Gateway) -> None:
    await gateway.send(event(id="secret", category="hr.salaries"))
    key = await gateway.mint(
        {"actions": ["pull", "stream"], "categories": ["auth"]},
        {"actions": ["ingest"], "categories": ["auth"]},
    )
    await gateway.pull(key, category="auth")
    await gateway.pull(key, category="billing.*")
    await gateway.pull(key, filter='category == "legal"')
    assert (await gateway.get("/v1/events/secret", key=key)).status == 404
    stream = await open_stream(gateway, "sse", key, category="vault")
    stream.close()
    answer = await gateway.post("/v1/events", key=key, json=event(category="k8s.audit"))
    answer.problem(403, "events_not_granted")
    finding = await of_signal(gateway, "forbidden_categories")
    deadline = time.monotonic() + patience(3)
    wanted = ["billing.*", "hr.salaries", "k8s.audit", "legal", "vault"]
    while finding["data"]["categories"] != wanted:
        assert time.monotonic() < deadline, finding
        finding = await of_signal(gateway, "forbidden_categories")
    assert finding["key"] == key_id(key)


async def test_a_stolen_key_is_found_from_its_first_use_on(gateway: Gateway) -> None:
    key = await gateway.reader_key(categories=["auth"])
    await gateway.pull(key)
    await found(gateway)
    watch = Stopwatch()
    assert (await from_elsewhere(gateway, key)).status == 200
    [finding] = await found(gateway, "new_network")
    assert watch.seconds < 2.5
    assert finding["data"]["networks"] == ["127.7.0.0/16"]
    assert finding["data"]["address"] == ELSEWHERE
    shown = await gateway.get(f"/v1/keys/{key_id(key)}", key=gateway.admin)
    assert shown.json()["last_used"]["address"] == ELSEWHERE


async def test_a_category_within_reach_is_not_forbidden_because_an_event_of_it_is(
    recording: Gateway,
) -> None:
    categories = ["auth", "billing", "k8s"]
    far = [event(id=f"far-{one}", category=one, tenant="globex") for one in categories]
    await recording.send(*far, event(id="secret", category="hr"))
    reach = {"categories": categories, "tenants": ["acme"]}
    key = await recording.mint({"actions": ["pull", "ingest"], **reach})
    for one in categories:
        (await recording.get(f"/v1/events/far-{one}", key=key)).problem(404, "not_found")
    refused = await recording.post("/v1/events", key=key, json=far)
    refused.problem(403, "events_not_granted")
    (await recording.get("/v1/events/secret", key=key)).problem(404, "not_found")
    own = {"resource": about(key), "category": ACCESS, "action": "request.failed"}
    [use] = await told(recording, where=lambda one: one["data"].get("forbidden"), **own)
    assert use["data"]["forbidden"] == ["hr"]
    [denied] = await told(recording, **{**own, "action": "request.denied"})
    assert "forbidden" not in denied["data"]
    await recording.context.detector.poll()
    assert await found(recording) == []


async def test_a_live_stream_that_is_not_read_is_found_though_little_comes(
    start: Start, shifted: ShiftedClock
) -> None:
    gateway = await start(shifted, stream={"heartbeat": 3600, "ping": 3600})
    await open_stream(gateway, "ndjson", gateway.user, receive_buffer=4096)
    [subscription] = gateway.context.hub.subscriptions
    while subscription.sink.clear:
        await gateway.send(event(data={"x": "y" * 9000}))
        await gateway.tail_reaches(gateway.context.log.head)
    assert subscription.state is State.LIVE
    assert 0 < subscription.sink.unsent <= subscription.sink.waited
    for _ in range(7):
        shifted.shift += 60
        await gateway.context.detector.poll()
    [finding] = await found(gateway, "silent_consumer")
    assert finding["key"] == key_id(gateway.user)
    assert finding["data"]["unsent_bytes"] == subscription.sink.unsent


@pytest.mark.parametrize("way", ["over HTTP", "by command"])
async def test_a_stolen_successor_is_found_from_its_first_use_on(
    gateway: Gateway, way: str
) -> None:
    key = await gateway.reader_key(categories=["auth"])
    await gateway.pull(key)
    await gateway.context.detector.poll()
    if way == "over HTTP":
        answer = await gateway.post(f"/v1/keys/{key_id(key)}/rotate", key=gateway.admin)
        successor = answer.json()["key"]
    else:
        folder = str(gateway.context.settings.data)
        arguments = ("keys", "rotate", key_id(key), "--data", folder, "--json")
        _, out, _ = await finish_program(*arguments)
        successor = orjson.loads(out)["key"]
    assert (await from_elsewhere(gateway, successor)).status == 200
    [finding] = await found(gateway, "new_network")
    assert (finding["key"], finding["data"]["networks"]) == (key_id(successor), ["127.7.0.0/16"])


async def test_a_read_from_far_back_is_found(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    await gateway.send_many(10_001)
    stream = await open_stream(gateway, "ndjson", key)
    stream.close()
    await gateway.context.detector.poll()
    await gateway.pull(key, from_="start", limit="1")
    [finding] = await found(gateway, "deep_replay")
    assert finding["data"]["events"] >= 10_001
    assert finding["data"]["before"] < 100


async def test_a_revoked_key_that_comes_back_is_found(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    await gateway.revoke(key)
    assert (await gateway.get("/v1/events", key=key)).status == 401
    [finding] = await found(gateway, "revoked_presented")
    assert finding["key"] == key_id(key)


async def test_a_replaced_key_that_comes_back_is_found(start: Start, shifted: ShiftedClock) -> None:
    gateway = await start(shifted)
    key = await gateway.reader_key()
    path = f"/v1/keys/{key_id(key)}/rotate"
    successor = (await gateway.post(path, key=gateway.admin, json={"overlap": "1h"})).json()
    shifted.shift = 3700
    assert (await gateway.get("/v1/events", key=key)).status == 401
    findings = await found(gateway, "drained_presented")
    assert findings[0]["data"]["successor"] == successor["id"]


async def test_a_key_that_slept_for_a_month_is_found(start: Start, shifted: ShiftedClock) -> None:
    gateway = await start(shifted)
    key = await gateway.reader_key()
    await gateway.pull(key)
    await gateway.context.detector.poll()
    shifted.shift = 31 * 86400
    await gateway.pull(key)
    findings = await found(gateway, "dormant_woke")
    assert {one["key"] for one in findings if one["signal"] == "dormant_woke"} >= {key_id(key)}


async def test_rubbish_is_found_by_address_and_harms_no_key(start: Start) -> None:
    gateway = await start(watch={"suspend_on": ("denials",)})
    key = await gateway.reader_key()
    wrong = key[:18] + "x" * 49
    for _ in range(6):
        assert (await gateway.get("/v1/events", key=wrong)).status == 401
    [finding] = await found(gateway, "denials")
    assert (finding["key"], finding["address"]) == (None, "127.0.0.1")
    assert (await gateway.get("/v1/events", key=key)).status == 200


async def test_an_address_above_its_rate_is_found_as_that_and_not_as_denied(start: Start) -> None:
    gateway = await start(limits={"address_requests_per_second": 1, "address_requests_burst": 5})
    detector = gateway.context.detector

    async def seen() -> list[tuple[str, str, str]]:
        await detector.poll()
        return [(one.signal, one.key, one.address) for one in await detector.findings.all()]

    for _ in range(20):
        await gateway.get("/v1/events")
    assert await seen() == []
    # Of one minute, wherever that begins.
    for _ in range(250):
        assert (await gateway.get("/v1/events")).status in (200, 429)
    assert await seen() == [("rate_limited", "", "127.0.0.1")]


# Showing and marking


async def test_findings_are_for_those_who_may_read_usage_and_marked_by_administrators(
    gateway: Gateway,
) -> None:
    key = await gateway.reader_key()
    await deny(gateway, key, 5)
    [finding] = await found(gateway, "denials")
    reader = await gateway.mint({"actions": ["usage.read"], "categories": ["**"]})
    assert (await gateway.get("/v1/findings", key=reader)).json()["findings"] == [finding]
    path = f"/v1/findings/{finding['id']}/expected"
    (await gateway.get("/v1/findings", key=key)).problem(403, "action_not_granted")
    (await gateway.post(path, key=reader)).problem(403, "action_not_granted")
    unknown = await gateway.post("/v1/findings/denials-x-1/expected", key=gateway.admin)
    unknown.problem(404, "unknown_finding")
    bad = await gateway.post(path, key=gateway.admin, json={"why": "x"})
    bad.problem(400, "invalid_request")


async def test_findings_are_narrowed_by_key_signal_and_state(gateway: Gateway) -> None:
    keys = [await gateway.reader_key() for _ in range(3)]
    for key in keys:
        await deny(gateway, key, 5)
        await gateway.revoke(key)
        await gateway.get("/v1/events", key=key)
    await found(gateway, "denials", "revoked_presented")
    await gateway.context.detector.poll()
    assert len(await found(gateway)) == 6
    of_one = await found(gateway, key=key_id(keys[0]))
    assert {one["signal"] for one in of_one} == {"denials", "revoked_presented"}
    assert len(await found(gateway, signal="denials")) == 3
    assert len(await found(gateway, state="expected")) == 0
    assert len(await found(gateway, limit="2")) == 2
    newest = [one["last_seen"] for one in await found(gateway)]
    assert newest == sorted(newest, reverse=True)
    answer = await gateway.get("/v1/findings", key=gateway.admin, params={"sort": "x"})
    answer.problem(400, "unknown_parameter")
    for name, slip in (("signal", "denial"), ("state", "closed"), ("state", "")):
        answer = await gateway.get("/v1/findings", key=gateway.admin, params={name: slip})
        assert answer.problem(400, "invalid_request")["parameter"] == name


async def test_what_is_expected_is_silent_until_it_is_no_longer(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    await deny(gateway, key, 5)
    [finding] = await found(gateway, "denials")
    path = f"/v1/findings/{finding['id']}/expected"
    marked = await gateway.post(path, key=gateway.admin, json={"reason": "a probe of ours"})
    assert marked.status == 200
    assert (marked.json()["state"], marked.json()["reason"]) == ("expected", "a probe of ours")
    assert marked.json()["by"] == key_id(gateway.admin)
    await deny(gateway, key, 5)
    await gateway.context.detector.poll()
    [same] = await found(gateway)
    assert same["count"] == 5
    again = await gateway.request("DELETE", path, key=gateway.admin)
    assert (again.status, again.json()["state"]) == (200, "open")
    await deny(gateway, key, 1)
    deadline = time.monotonic() + patience(3)
    while (await found(gateway))[0]["count"] == 5:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_marks_are_recorded_with_whose_they_are_and_why(recording: Gateway) -> None:
    key = await recording.reader_key()
    await deny(recording, key, 5)
    [finding] = await found(recording, "denials")
    path = f"/v1/findings/{finding['id']}/expected"
    await recording.post(path, key=recording.admin, json={"reason": "a probe of ours"})
    await recording.request("DELETE", path, key=recording.admin)
    (await recording.post(path, key=key)).problem(403, "action_not_granted")
    marks = await told(
        recording, 2, category=KEYS, resource=about(key),
        where=lambda one: one["action"].startswith("finding."),
    )  # fmt: skip
    shown = [(one["action"], one.get("reason"), one["actor"]["key_id"]) for one in marks]
    assert shown == [
        ("finding.expected", "a probe of ours", key_id(recording.admin)),
        ("finding.reopened", None, key_id(recording.admin)),
    ]
    what = {"finding": finding["id"], "signal": "denials", "key": key_id(key)}
    assert [one["data"] for one in marks] == [what, what]
    requests = await told(
        recording, category=ACCESS, resource=about(key), action="requested",
        where=lambda one: "findings" in one["data"]["route"],
    )  # fmt: skip
    assert requests[0]["actor"]["key_id"] == key_id(recording.admin)
    await told(recording, category=ACCESS, resource=f"finding:{finding['id']}", outcome="denied")
    history = await recording.get(f"/v1/keys/{key_id(key)}/history", key=recording.admin)
    actions = [one["action"] for one in history.json()["events"]]
    assert actions.count("finding.expected") == actions.count("finding.reopened") == 1


async def test_a_mark_of_an_address_without_a_key_is_recorded(recording: Gateway) -> None:
    key = await recording.reader_key()
    for _ in range(5):
        assert (await recording.get("/v1/events", key=key[:18] + "x" * 49)).status == 401
    [finding] = await found(recording, "denials")
    path = f"/v1/findings/{finding['id']}/expected"
    await recording.post(path, key=recording.admin, json={"reason": "a scanner"})
    [mark] = await told(recording, category=KEYS, action="finding.expected")
    assert mark["data"] == {
        "finding": finding["id"], "signal": "denials", "address": finding["address"],
    }  # fmt: skip
    assert (mark["reason"], "targets" in mark) == ("a scanner", False)


# Consequences


async def test_a_key_is_suspended_where_the_policy_says_so(
    start: Start, shifted: ShiftedClock
) -> None:
    gateway = await start(shifted, watch={"suspend_on": ("forbidden_categories",), "pause": 900})
    key, other = await gateway.reader_key(categories=["auth"]), await gateway.reader_key()
    stream = await open_stream(gateway, "sse", key)
    quiet = await open_stream(gateway, "sse", other)
    began = Stopwatch()
    for category in ("hr", "legal", "vault"):
        await gateway.pull(key, category=category)
    end = await stream.to_end()
    assert began.seconds < 3
    assert (end["code"], end["reason"]) == (4504, "key_suspended")
    (await gateway.get("/v1/events", key=key)).problem(401, "key_suspended")
    selectors = {"category": "gateway.keys", "action": "key.suspended"}
    [suspended] = (await gateway.pull(gateway.admin, wait="3", **selectors))["events"]
    assert suspended["reason"] == "unusual activity: forbidden_categories"
    assert suspended["actor"]["id"] == "gateway"
    await gateway.send(event(id="goes on"))
    assert (await quiet.event())["id"] == "goes on"
    shifted.shift = 901
    assert (await gateway.get("/v1/events", key=key)).status == 200


async def test_a_key_is_throttled_where_the_policy_says_so(
    start: Start, shifted: ShiftedClock
) -> None:
    gateway = await start(shifted, watch={"throttle_on": ("denials",)})
    key, other = await gateway.reader_key(), await gateway.reader_key()
    stream = await open_stream(gateway, "ndjson", key)
    await deny(gateway, key, 5)
    end = await stream.to_end()
    assert (end["code"], end["reason"], end["reconnect"]) == (4001, "throttled", True)
    statuses = [(await gateway.get("/v1/events", key=key)).status for _ in range(5)]
    assert statuses == [200, 200, 429, 429, 429]
    refused = await gateway.get("/v1/events", key=key)
    refused.problem(429, "key_throttled")
    question = {"key": key_id(key), "action": "pull"}
    explained = (await gateway.post("/v1/authz/explain", key=gateway.admin, json=question)).json()
    shown = (await gateway.get(f"/v1/keys/{key_id(key)}", key=gateway.admin)).json()
    assert (explained["decision"], explained["throttled_until"]) == (
        "allow",
        shown["throttled_until"],
    )
    assert 1 <= int(refused.headers["Retry-After"]) <= 10
    with pytest.raises(Refused) as caught:
        await open_stream(gateway, "sse", key)
    assert caught.value.answer.status == 429
    assert (await gateway.get("/v1/events", key=other)).status == 200
    shifted.shift = 901
    for _ in range(5):
        assert (await gateway.get("/v1/events", key=key)).status == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_throttled_key_opens_no_stream_until_it_is_over(
    start: Start, shifted: ShiftedClock, transport: str
) -> None:
    gateway = await start(shifted, watch={"throttle_on": ("denials",), "pause": 600})
    key = await gateway.reader_key()
    stream = await open_stream(gateway, "ndjson", key)
    await deny(gateway, key, 5)
    assert (await stream.to_end())["reason"] == "throttled"
    with pytest.raises(Refused) as caught:
        await open_stream(gateway, transport, key)
    caught.value.answer.problem(429, "key_throttled")
    assert 590 <= int(caught.value.answer.headers["Retry-After"]) <= 600
    shifted.shift = 601
    await open_stream(gateway, transport, key)


async def test_a_request_of_a_throttled_key_counts_once_however_often_it_asks(
    start: Start,
) -> None:
    gateway = await start(watch={"throttle_on": ("denials",)})
    key = await gateway.mint({"actions": ["usage.read", "stream"], "categories": ["**"]})
    stream = await open_stream(gateway, "ndjson", key)
    await deny(gateway, key, 5)
    assert (await stream.to_end())["reason"] == "throttled"
    asked = {"key": key_id(key), "action": "pull", "category": "auth"}
    # Whether it administers keys is asked first, whether it reads usage next.
    answers = [await gateway.post("/v1/authz/explain", key=key, json=asked) for _ in range(4)]
    assert [one.status for one in answers] == [200, 200, 429, 429]


async def test_without_a_policy_nothing_happens_by_itself(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    await deny(gateway, key, 50)
    await from_elsewhere(gateway, key)
    await found(gateway, "denials", "new_network")
    assert (await gateway.get("/v1/events", key=key)).status == 200


async def test_what_was_found_is_there_after_a_restart(start: Start) -> None:
    gateway = await start()
    key = await gateway.reader_key()
    await deny(gateway, key, 4)
    store = gateway.context.key_store
    await gateway.context.detector.close()
    await deny(gateway, key, 1)
    [finding] = await found(gateway, "denials")
    assert finding["count"] == 5
    assert len(await store.notes("finding")) == 1
