"""Durable consumers on streams: positions, acknowledgements, one reader, and ends."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from gateway_client import Event, GatewayClient, cursor_at, event, key_id, offset_of
from gateways import Gateway, Start
from open_streams import PONG, TEXT, Refused, Stream, WebSocketStream, masked, open_stream

from gateway.clock import SystemClock
from gateway.runtime.drain import drain
from gateway.streaming.consumers import claims
from tests.support.machine_time import Stopwatch, eventually, patience


@pytest.fixture
def gateway(gateway_of_module: Gateway) -> Gateway:
    return gateway_of_module


async def reading(gateway: GatewayClient, transport: str = "audit.v1", **params: Any) -> Any:
    return await open_stream(gateway, transport, **{"consumer": "siem", **params})


async def refused(gateway: GatewayClient, transport: str = "audit.v1", **params: Any) -> Any:
    with pytest.raises(Refused) as caught:
        await reading(gateway, transport, **params)
    return caught.value.answer


def say(stream: Stream, **message: Any) -> None:
    stream.write(masked(TEXT, orjson.dumps(message)))


async def acknowledge(stream: Stream, one: Event) -> None:
    """Acknowledge up to an event, and wait until that is durable."""
    say(stream, type="ack", cursor=one["cursor"])
    while (await stream.next("acked")).content["cursor"] != one["cursor"]:
        pass


async def shown(gateway: GatewayClient, name: str = "siem", **options: Any) -> Any:
    answer = await gateway.get(f"/v1/consumers/{name}", **options)
    assert answer.status == 200, answer.body
    return answer.json()


def ids(events: list[Event]) -> list[str]:
    return [one["id"] for one in events]


async def becomes(gateway: GatewayClient, **members: Any) -> Any:
    """Wait until the consumer is shown with these members; return it."""
    watch = Stopwatch()
    while not members.items() <= (one := await shown(gateway)).items():
        assert watch.elapsed < patience(), f"the consumer has no {members}: {one}"
        await asyncio.sleep(0.01)
    return one


async def reaches(gateway: GatewayClient, cursor: str) -> None:
    """Wait until the position is there, or, where nothing is out, behind it."""
    watch = Stopwatch()
    while (one := await shown(gateway))["cursor"] < cursor:
        assert watch.elapsed < patience(), f"the consumer does not come to {cursor}: {one}"
        await asyncio.sleep(0.01)


async def idle(gateway: GatewayClient) -> None:
    """Wait until the consumer is known to have no reader."""
    await becomes(gateway, state="idle")


# Position and acknowledgement


async def test_a_consumer_goes_on_behind_what_was_acknowledged(gateway: Gateway) -> None:
    stream = await reading(gateway)
    sent = await gateway.send_many(5)
    events = await stream.take(5)
    await acknowledge(stream, events[2])
    stream.close()
    later = await gateway.send_many(1)
    again = await reading(gateway, from_="now")
    assert ids(await again.take(3)) == sent[3:] + later
    await becomes(gateway, redelivered=2)


async def test_the_first_use_makes_it_durably_where_the_request_says(gateway: Gateway) -> None:
    before = (await gateway.send(event(id="before")))["last_cursor"]
    stream = await reading(gateway)
    row = await gateway.context.consumer_store.get(key_id(gateway.user), "siem")
    assert row is not None
    assert row.cursor == stream.answer.headers["audit-cursor"]
    await gateway.send(event(id="after"))
    assert (await stream.event())["id"] == "after"
    other = await reading(gateway, consumer="other", after=before)
    assert (await other.event())["id"] == "after"


async def test_what_is_not_acknowledged_comes_again_whatever_the_url_says(
    gateway: Gateway,
) -> None:
    stream = await reading(gateway)
    sent = await gateway.send_many(2)
    await stream.take(2)
    stream.close()
    for params in ({"from_": "now"}, {"since": "1s"}, {}):
        again = await reading(gateway, **params)
        assert ids(await again.take(2)) == sent
        again.close()


async def test_after_acknowledges_and_one_behind_the_position_moves_nothing(
    gateway: Gateway,
) -> None:
    stream = await reading(gateway)
    sent = await gateway.send_many(3)
    first, second, _ = await stream.take(3)
    stream.close()
    again = await reading(gateway, after=second["cursor"])
    assert ids([await again.event()]) == sent[2:]
    again.close()
    behind = await reading(gateway, after=first["cursor"])
    assert ids([await behind.event()]) == sent[2:]
    assert (await shown(gateway))["cursor"] == second["cursor"]


async def test_an_acknowledgement_of_what_was_not_sent_is_refused(gateway: Gateway) -> None:
    stream = await reading(gateway, category="auth")
    await gateway.send(event(id="one"))
    one = await stream.event()
    epoch, _, number = one["cursor"].rpartition("-")
    say(stream, type="ack", cursor=f"{epoch}-{int(number) + 1000:020d}")
    assert (await stream.next("notice")).content["code"] == "ack_ahead"
    say(stream, type="ack", cursor="nonsense")
    assert (await stream.next("notice")).content["code"] == "malformed_cursor"
    say(stream, type="ack", cursor=f"other-{number}")
    assert (await stream.next("notice")).content["code"] == "cursor_unknown"
    await acknowledge(stream, one)


@pytest.mark.parametrize("transport", ["sse", "ndjson", "audit.v1", "websocket"])
async def test_a_call_acknowledges_for_any_transport_and_key_of_the_lineage(
    gateway: Gateway, transport: str
) -> None:
    stream = await reading(gateway, transport, ack="explicit")
    sent = await gateway.send_many(2)
    first, second = await stream.take(2)
    answer = await gateway.post("/v1/consumers/siem/ack", json={"cursor": first["cursor"]})
    assert answer.status == 200, answer.body
    assert answer.json()["cursor"] == first["cursor"]
    epoch, _, number = second["cursor"].rpartition("-")
    ahead = {"cursor": f"{epoch}-{int(number) + 1000:020d}"}
    (await gateway.post("/v1/consumers/siem/ack", json=ahead)).problem(409, "ack_ahead")
    elsewhere = {"cursor": f"{epoch[::-1]}-{number}"}
    (await gateway.post("/v1/consumers/siem/ack", json=elsewhere)).problem(410, "cursor_unknown")
    stream.close()
    await idle(gateway)
    again = await reading(gateway, transport, ack="explicit")
    assert ids([await again.event()]) == sent[1:]


async def test_last_event_id_acknowledges_what_was_sent_and_nothing_ahead(
    gateway: Gateway,
) -> None:
    stream = await reading(gateway, "sse")
    sent = await gateway.send_many(3)
    first, *_, third = await stream.take(3)
    stream.close()
    await idle(gateway)
    again = await reading(gateway, "sse", headers={"Last-Event-ID": first["cursor"]})
    assert ids(await again.take(2)) == sent[1:]
    again.close()
    await idle(gateway)
    await gateway.send(event(id="ahead"))
    ahead = (await gateway.pull(after=third["cursor"]))["cursor"]
    again = await reading(gateway, "sse", headers={"Last-Event-ID": ahead})
    assert ids(await again.take(3)) == [*sent[1:], "ahead"]


async def test_what_does_not_match_moves_the_position_while_nothing_is_out(
    gateway: Gateway,
) -> None:
    await reading(gateway, category="auth")
    last = await gateway.send(event(category="billing", id="other"))
    await reaches(gateway, last["last_cursor"])


@pytest.mark.parametrize("scope", [{"category": "auth"}, {"action": "login", "actor": "alice"}])
async def test_all_is_acknowledged_with_the_last_event_whatever_was_looked_at_behind_it(
    gateway: Gateway, scope: dict[str, str]
) -> None:
    await put(gateway, **{"from": "now", "selection": scope})
    chosen = {"category": "auth", "action": "login", "actor": {"id": "alice"}}
    await gateway.send(event(id="one", **chosen))
    await gateway.send(event(id="other", category="billing", action="paid", actor={"id": "bob"}))
    stream = await reading(gateway, **scope)
    await acknowledge(stream, await stream.event())
    assert (await becomes(gateway, unacknowledged=0))["state"] == "connected"
    [reader] = gateway.context.consumers.readers.values()
    assert reader.window.waits_since is None, "a reader that acknowledges is not ended"


async def test_what_was_sent_for_another_selection_cannot_be_acknowledged(
    gateway: Gateway,
) -> None:
    stream = await reading(gateway, category="auth")
    await gateway.send(event(id="one", category="auth"))
    await gateway.send(event(id="two", category="billing"))
    await gateway.send(event(id="three", category="auth"))
    *_, third = await stream.take(2)
    stream.close()
    await idle(gateway)
    changed = await reading(
        gateway, "ndjson", category="billing", selection="update", limit="1", follow="false"
    )
    assert (await changed.event())["id"] == "two"
    await idle(gateway)
    late = await gateway.post("/v1/consumers/siem/ack", json={"cursor": third["cursor"]})
    late.problem(409, "ack_ahead")


class QuickClock(SystemClock):
    """The machine's clock, but that time which only passes does so ten times as fast."""

    def monotonic(self) -> float:
        return super().monotonic() * 10


async def test_a_pong_acknowledges_what_was_sent_long_before_its_ping(start: Start) -> None:
    gateway = await start(QuickClock())
    stream: WebSocketStream = await reading(gateway, "websocket")
    sent = await gateway.send_many(2)
    events = await stream.take(2)
    assert (await shown(gateway))["reader"]["ack"] == "pong"
    # Pongs with other bytes mean nothing.
    stream.write(masked(PONG, b"12345678"))
    pings = asyncio.create_task(stream.to_end(60))
    await reaches(gateway, events[1]["cursor"])
    pings.cancel()
    stream.close()
    later = await gateway.send_many(1)
    await idle(gateway)
    again = await reading(gateway, "websocket")
    assert ids([await again.event()]) == later
    assert later != sent


async def test_a_mode_that_a_transport_lacks_is_named_with_those_it_has(gateway: Gateway) -> None:
    for transport, mode, modes in (
        ("sse", "pong", ["explicit"]),
        ("audit.v1", "next", ["explicit"]),
        ("websocket", "next", ["pong", "explicit"]),
    ):
        answer = await refused(gateway, transport, ack=mode)
        assert answer.problem(400, "ack_mode_unavailable")["modes"] == modes
    (await gateway.get("/v1/stream", params={"ack": "pong"})).problem(400, "invalid_request")
    (await refused(gateway, consumer="No")).problem(400, "invalid_consumer")


async def test_another_selection_is_refused_until_it_is_asked_for(gateway: Gateway) -> None:
    (await reading(gateway, category="auth", filter="severity > 1")).close()
    await idle(gateway)
    answer = await refused(gateway, category=["auth", "billing"], filter="severity > 1")
    difference = answer.problem(409, "consumer_selection_changed")["difference"]
    assert difference == {"category": {"stored": ["auth"], "sent": ["auth", "billing"]}}
    changed = await reading(gateway, category="billing", selection="update")
    changed.close()
    assert (await shown(gateway))["selection"] == {"category": ["billing"]}


async def test_a_consumer_that_is_made_without_a_selection_takes_that_of_its_first_reader(
    gateway: Gateway,
) -> None:
    made = await gateway.request("PUT", "/v1/consumers/siem", json={"ack_timeout": "2m"})
    assert (made.status, made.json()["selection"]) == (201, None)
    again = await gateway.request("PUT", "/v1/consumers/siem", json={"ack_timeout": "3m"})
    assert (again.status, again.json()["selection"]) == (200, None)
    await gateway.send(event(id="login", category="auth"))
    stream = await reading(gateway, category="auth")
    assert (await stream.event())["id"] == "login"
    stream.close()
    await idle(gateway)
    assert (await shown(gateway))["selection"] == {"category": ["auth"]}
    (await refused(gateway)).problem(409, "consumer_selection_changed")
    kept = await gateway.request("PUT", "/v1/consumers/siem", json={"ack_timeout": "4m"})
    assert kept.json()["selection"] == {"category": ["auth"]}
    await gateway.request("PUT", "/v1/consumers/all", json={"selection": {}})
    assert (await shown(gateway, "all"))["selection"] == {}
    (await refused(gateway, consumer="all", category="auth")).problem(
        409, "consumer_selection_changed"
    )


async def test_another_selection_ends_the_reader_of_the_former_one(gateway: Gateway) -> None:
    stream = await reading(gateway, category="auth")
    await gateway.send(event(id="bill", category="billing"), event(id="login", category="auth"))
    login = await stream.event()
    body = {"selection": {"category": "billing"}}
    put = await gateway.request("PUT", "/v1/consumers/siem", json=body)
    assert (put.status, put.json()["selection"]) == (200, {"category": ["billing"]})
    # What it has acknowledges nothing of the new one.
    say(stream, type="ack", cursor=login["cursor"])
    assert (await stream.to_end())["reason"] == "consumer_rewound"
    answer = await refused(gateway, category="auth")
    answer.problem(409, "consumer_selection_changed")
    again = await reading(gateway, category="billing")
    assert (await again.event())["id"] == "bill"


# One reader


async def test_a_second_reader_waits_for_the_first_and_is_refused_while_that_lives(
    gateway: Gateway,
) -> None:
    first = await reading(gateway)
    second = asyncio.create_task(refused(gateway))
    while not second.done():
        # It answers pings while it reads.
        await asyncio.wait_for(first.say(), 60)
    answer = await second
    answer.problem(409, "consumer_in_use")
    assert answer.headers["Retry-After"] == "5"
    await gateway.send(event(id="still"))
    assert (await first.event())["id"] == "still"


async def test_a_reader_that_answers_nothing_gives_way(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "ANSWER_SECONDS", 0.3)
    first = await reading(gateway)
    second = await reading(gateway)
    end = await first.to_end()
    assert (end["code"], end["reason"]) == (4505, "consumer_taken_over")
    assert end.get("reconnect") in (False, None)
    sent = await gateway.send_many(1)
    assert ids(await second.take(1)) == sent


async def test_takeover_ends_the_first_reader_at_once(gateway: Gateway) -> None:
    first = await reading(gateway)
    await reading(gateway, takeover="true")
    assert (await first.to_end())["code"] == 4505


async def test_readers_that_acknowledge_nothing_of_what_is_out_give_way_once_a_minute(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(claims, "ELSEWHERE_SECONDS", 0.1)
    first = await reading(gateway, "sse")
    sent = await gateway.send_many(1)
    assert ids(await first.take(1)) == sent
    await gateway.context.consumers.flush()
    second = await reading(gateway, "sse")
    assert (await first.to_end())["reason"] == "consumer_taken_over"
    assert ids(await second.take(1)) == sent
    await gateway.context.consumers.flush()
    answer = await refused(gateway, "sse")
    answer.problem(409, "consumer_in_use")
    assert answer.headers["Retry-After"] == "5"


async def test_a_reader_that_acknowledges_by_calls_keeps_its_consumer(gateway: Gateway) -> None:
    first = await reading(gateway, "sse", category="auth")
    sent = await gateway.send_many(1)
    [one] = await first.take(1)
    await gateway.context.consumers.flush()
    asked = asyncio.ensure_future(refused(gateway, "sse", category="auth"))
    await asyncio.sleep(0)
    answer = await gateway.post("/v1/consumers/siem/ack", json={"cursor": one["cursor"]})
    assert answer.status == 200, answer.body
    (await asked).problem(409, "consumer_in_use")
    assert one["id"] in sent


async def test_a_reader_that_has_left_is_followed_at_once(gateway: Gateway) -> None:
    for _ in range(3):
        stream = await reading(gateway, "sse")
        await gateway.streams_become(1)
        stream.close()
        await gateway.streams_become(0)


# Pressure


@pytest.mark.parametrize(("name", "value"), [("ack_timeout", "0s"), ("ack_delay", "2h")])
async def test_options_that_no_reader_could_live_with_are_refused(
    gateway: Gateway, name: str, value: str
) -> None:
    answer = await gateway.request("PUT", "/v1/consumers/siem", json={name: value})
    assert answer.problem(400, "invalid_request")["parameter"] == name


async def put(gateway: GatewayClient, **options: Any) -> None:
    answer = await gateway.request("PUT", "/v1/consumers/siem", json=options)
    assert answer.status in (200, 201), answer.body


async def test_only_so_many_events_are_out_unacknowledged(gateway: Gateway) -> None:
    await put(gateway, max_unacked=3)
    stream = await reading(gateway)
    sent = await gateway.send_many(8)
    events = await stream.take(3)
    await becomes(gateway, unacknowledged=3)
    await acknowledge(stream, events[1])
    while len(stream.events) < 5:
        await stream.say()
    assert ids(stream.events) == sent[:5]
    row = await gateway.context.consumer_store.get(key_id(gateway.user), "siem")
    assert row is not None
    [reader] = [one for key, one in gateway.context.consumers.readers.items() if key == row.key]
    assert not reader.has_room
    # Between what is acknowledged and what is sent a stream stays as it is.
    await acknowledge(stream, stream.events[-1])
    while len(stream.events) < 8:
        await stream.say()
    assert ids(stream.events) == sent


async def test_each_event_makes_room_for_itself_wherever_others_lie_between(
    gateway: Gateway,
) -> None:
    await put(gateway, max_unacked=4, selection={"category": "iam.user"})
    await gateway.send(*(event(category="auth" if n % 4 else "iam.user") for n in range(24)))
    stream = await reading(gateway, category="iam.user")
    events = await stream.take(4)
    await acknowledge(stream, events[1])
    while len(stream.events) < 6:
        await stream.say()


@pytest.mark.parametrize("transport", ["audit.v1", "sse", "ndjson", "websocket"])
async def test_a_reader_that_acknowledges_nothing_is_ended(
    gateway: Gateway, transport: str
) -> None:
    await put(gateway, ack_timeout="1s")
    stream = await reading(gateway, transport, ack="explicit")
    await gateway.send_many(1)
    end = await stream.to_end()
    assert (end["code"], end["reason"]) == (1013, "ack_timeout")


# Calls


async def test_a_rewind_ends_the_reader_which_comes_back_there(gateway: Gateway) -> None:
    stream = await reading(gateway)
    sent = await gateway.send_many(3)
    events = await stream.take(3)
    await acknowledge(stream, events[2])
    body = {"to": events[0]["cursor"], "reason": "the index was lost"}
    answer = await gateway.post("/v1/consumers/siem/rewind", json=body)
    assert answer.status == 200, answer.body
    assert answer.json()["cursor"] == events[0]["cursor"]
    end = await stream.to_end()
    assert (end["code"], end["reason"]) == (1012, "consumer_rewound")
    again = await reading(gateway)
    assert ids(await again.take(2)) == sent[1:]
    for to in ("latest", "earliest", "1h"):
        answer = await gateway.post("/v1/consumers/siem/rewind", json={"to": to})
        assert answer.status == 200, answer.body
    (await gateway.post("/v1/consumers/siem/rewind", json={"to": "?"})).problem(
        400, "invalid_request"
    )


async def test_nobody_is_rewound_beyond_what_the_grants_look_back(gateway: Gateway) -> None:
    early = (await gateway.send(event(id="early")))["first_cursor"]
    before = cursor_at(early, offset_of(early) - 1)
    key = await gateway.reader_key(when={"max_lookback": "0s"})
    stream = await open_stream(gateway, "audit.v1", key, consumer="siem")
    body = {"to": before}
    answer = await gateway.post("/v1/consumers/siem/rewind", json=body, key=key)
    answer.problem(403, "beyond_lookback")
    stream.close()


async def test_a_deleted_consumer_ends_its_reader_and_is_gone(gateway: Gateway) -> None:
    stream = await reading(gateway)
    answer = await gateway.request("DELETE", "/v1/consumers/siem")
    assert answer.status == 204
    end = await stream.to_end()
    assert (end["code"], end["reason"]) == (4505, "consumer_deleted")
    (await gateway.get("/v1/consumers/siem")).problem(404, "unknown_consumer")
    (await gateway.request("DELETE", "/v1/consumers/siem")).problem(404, "unknown_consumer")


async def test_consumers_are_seen_by_their_key_and_by_who_may(gateway: Gateway) -> None:
    stream = await reading(gateway)
    await gateway.send_many(2)
    await stream.take(2)
    mine = await gateway.get("/v1/consumers")
    [one] = mine.json()["consumers"]
    assert (one["name"], one["key"], one["state"]) == ("siem", key_id(gateway.user), "connected")
    assert one["reader"]["transport"] == "audit.v1"
    other = await gateway.reader_key()
    assert (await gateway.get("/v1/consumers", key=other)).json() == {"consumers": []}
    (await gateway.get("/v1/consumers/siem", key=other)).problem(404, "unknown_consumer")
    whose = {"key": key_id(gateway.user)}
    answer = await gateway.get("/v1/consumers/siem", key=other, params=whose)
    answer.problem(403, "action_not_granted")
    answer = await gateway.request("DELETE", "/v1/consumers/siem", key=other, params=whose)
    answer.problem(403, "action_not_granted")
    watcher = await gateway.mint({"actions": ["usage.read"], "categories": ["**"]})
    listed = (await gateway.get("/v1/consumers", key=watcher)).json()["consumers"]
    assert "siem" in [one["name"] for one in listed]
    assert (await shown(gateway, key=watcher, params=whose))["lag"]["events"] >= 2
    answer = await gateway.request("DELETE", "/v1/consumers/siem", key=watcher, params=whose)
    answer.problem(403, "action_not_granted")
    answer = await gateway.request("DELETE", "/v1/consumers/siem", key=gateway.admin, params=whose)
    assert answer.status == 204


async def test_nobody_moves_or_deletes_consumers_of_keys_that_see_more_than_they_may_grant(
    gateway: Gateway,
) -> None:
    broad = await gateway.mint({"actions": ["stream"], "categories": ["**"]})
    stream = await reading(gateway, key=broad)
    await gateway.send_many(2)
    events = await stream.take(2)
    rotated = await gateway.post(f"/v1/keys/{key_id(broad)}/rotate", json={}, key=gateway.admin)
    successor = rotated.json()["key"]
    admin = await gateway.mint(
        {"actions": ["keys.admin", "usage.read"], "categories": ["**"]},
        {"actions": ["stream"], "categories": ["auth"]},
    )
    before = await shown(gateway, key=broad)
    cursor = events[-1]["cursor"]
    for whose in ({"key": key_id(broad)}, {"key": key_id(successor)}):
        assert (await shown(gateway, key=admin, params=whose))["cursor"] == before["cursor"]
        for method, call, body in (
            ("POST", "/siem/ack", {"cursor": cursor}), ("POST", "/siem/rewind", {"to": "latest"}),
            ("PUT", "/siem", {"ack_delay": "9s"}), ("PUT", "/new", {}), ("DELETE", "/siem", None),
        ):  # fmt: skip
            answer = await gateway.request(
                method, f"/v1/consumers{call}", key=admin, params=whose, json=body
            )
            answer.problem(403, "exceeds_own_grants")
    assert await shown(gateway, key=broad) | {"lag": 0} == before | {"lag": 0}
    narrow = await gateway.mint({"actions": ["stream"], "categories": ["auth"]})
    whose = {"key": key_id(narrow)}
    made = await gateway.request("PUT", "/v1/consumers/siem", key=admin, params=whose, json={})
    assert made.status == 201, made.body
    gone = await gateway.request("DELETE", "/v1/consumers/siem", key=admin, params=whose)
    assert gone.status == 204, gone.body


async def test_a_lineage_has_so_many_consumers_and_no_more(gateway: Gateway) -> None:
    for number in range(16):
        answer = await gateway.request("PUT", f"/v1/consumers/c{number}", json={"from": "start"})
        assert answer.status == 201, answer.body
    (await gateway.request("PUT", "/v1/consumers/c16", json={})).problem(409, "too_many_consumers")
    (await refused(gateway, consumer="c16")).problem(409, "too_many_consumers")
    answer = await gateway.request("PUT", "/v1/consumers/c1", json={"ack_delay": "9s"})
    assert (answer.status, answer.json()["ack_delay"]) == (200, "9s")


# Keys


async def test_the_successor_of_a_key_goes_on_where_the_key_was(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    stream = await open_stream(gateway, "audit.v1", key, consumer="siem")
    sent = await gateway.send_many(3)
    events = await stream.take(3)
    await acknowledge(stream, events[0])
    answer = await gateway.post(f"/v1/keys/{key_id(key)}/rotate", json={}, key=gateway.admin)
    successor = answer.json()["key"]
    again = await open_stream(gateway, "audit.v1", successor, consumer="siem", takeover="true")
    assert (await stream.to_end())["code"] == 4505
    assert ids(await again.take(2)) == sent[1:]
    assert (await shown(gateway, key=key))["key"] == key_id(successor)


async def test_a_revoked_key_ends_the_reader_with_4501_within_a_second(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    streams = [
        await open_stream(gateway, transport, key, consumer=transport.replace(".", "-"))
        for transport in ("audit.v1", "websocket", "sse")
    ]
    watch = Stopwatch()
    await gateway.revoke(key)
    for stream in streams:
        end = await stream.to_end()
        assert (end["code"], end["reason"]) == (4501, "key_revoked")
    assert watch.seconds < 1


async def test_a_consumer_sees_what_its_key_may_see(gateway: Gateway) -> None:
    key = await gateway.reader_key(categories=["auth"], fields={"mask": ["actor.name"]})
    stream = await open_stream(gateway, "audit.v1", key, consumer="siem")
    await gateway.send(
        event(category="billing", id="hidden"), event(id="seen", actor={"id": "a", "name": "Ann"})
    )
    one = await stream.event()
    assert (one["id"], one["actor"]["name"]) == ("seen", "***")


async def test_a_ticket_has_no_consumer(gateway: Gateway) -> None:
    answer = await gateway.post("/v1/tickets", json={"consumer": "siem"})
    assert answer.problem(400, "invalid_request")["parameter"] == "consumer"


# Retention


async def test_an_overtaken_consumer_is_410_until_it_is_rewound_or_skips(start: Start) -> None:
    gateway = await start()
    stream = await reading(gateway)
    stream.close()
    await gateway.send_many(3)
    await idle(gateway)
    last = await gateway.send(event(id="last"))
    assert last["accepted"] == 1
    await gateway.forget_before((await gateway.get("/v1/events/last")).json())
    answer = await refused(gateway)
    problem = answer.problem(410, "cursor_expired")
    assert set(problem) >= {"earliest", "latest"}
    assert (await shown(gateway))["state"] == "overtaken"
    # Also as the first frame of a plain WebSocket.
    skipping = await reading(gateway, "websocket", on_gap="skip")
    gap = (await skipping.next("gap")).content
    assert gap["missing"] >= 3
    assert (await skipping.event())["id"] == "last"
    skipping.close()
    await idle(gateway)
    records = await gateway.pull(gateway.admin, category="gateway.delivery")
    [record] = [one for one in records["events"] if one["action"] == "consumer.gap"]
    assert record["data"]["missing"] == gap["missing"]
    assert record["data"]["consumer"] == "siem"
    (await reading(gateway)).close()


async def test_a_draining_gateway_stores_where_its_readers_are(start: Start) -> None:
    gateway = await start()
    stream = await reading(gateway, "websocket", ack="explicit")
    await gateway.send_many(1)
    one = await stream.event()
    await gateway.context.consumers.acknowledge(
        next(iter(gateway.context.consumers.readers)), one["cursor"]
    )
    await drain(gateway.context)
    end = await stream.to_end()
    assert (end["code"], end["reason"]) == (1012, "restart")
    await eventually(lambda: not gateway.context.consumers.readers, "the reader has left")
    await gateway.context.consumers.flush()
    row = await gateway.context.consumer_store.get(key_id(gateway.user), "siem")
    assert row is not None
    assert (row.cursor, row.lease_until) == (one["cursor"], 0.0)
