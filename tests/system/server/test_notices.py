"""Notices: records of what somebody has to act on, and their way to a receiver of webhooks."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from gateway_client import event, key_id
from gateways import Gateway, Start
from standardwebhooks import Webhook
from test_destination_reports import AdvancedClock, make

from gateway.clock import parse_rfc3339
from gateway.delivery.outlets.outlet import SUCCESS, DeliveryResult, DeliveryVerdict
from gateway.errors import Unavailable
from gateway.fleet.delivery_watch import BETTER_SECONDS, DeliveryWatch
from gateway.fleet.processes import Process, Processes
from gateway.network import parse_network
from tests.support.machine_time import becomes, eventually
from tests.support.scripted_outlet import Receiver
from tests.support.scripted_receiver import Reply, ScriptedReceiver, scripted_receiver

DOWN = DeliveryVerdict(DeliveryResult.TRANSIENT, kind="connect", message="refused")
CATEGORIES = ["gateway.anomaly", "gateway.keys", "gateway.delivery"]
SECRET = f"whsec_{base64.b64encode(b'k' * 32).decode()}"
FIRST_OF_FINDINGS = 'category != "gateway.anomaly" || data.opened'


@pytest.fixture
def advanced() -> AdvancedClock:
    return AdvancedClock()


@pytest.fixture
async def gateway(start: Start, advanced: AdvancedClock) -> Gateway:
    return await start(
        clock=advanced, destinations={"allow_networks": (parse_network("127.0.0.0/8"),)}
    )


@pytest.fixture
async def receiver() -> AsyncIterator[ScriptedReceiver]:
    async with scripted_receiver(lambda _: Reply(204)) as receiver:
        yield receiver


async def notify(gateway: Gateway, receiver: ScriptedReceiver, **members: Any) -> str:
    """Make the destination of the page; the id of its key."""
    key = key_id(await gateway.mint({"actions": ["stream"], "categories": CATEGORIES}))
    body = {
        "name": "notices", "type": "http", "key": key,
        "select": {"category": CATEGORIES, "min_severity": 2, "filter": FIRST_OF_FINDINGS},
        "batch": {"max_wait": "1ms"}, "retry": {"min": "1ms", "max": "20ms"}, "plaintext": True,
        "settings": {"url": f"http://127.0.0.1:{receiver.port}/hook", "body": "json_array"},
        "secrets": {"signing": SECRET}, **members,
    }  # fmt: skip
    made = await gateway.post("/v1/destinations", key=gateway.admin, json=body)
    assert made.status == 201, made.body
    return key


def arrived(receiver: ScriptedReceiver) -> list[dict[str, Any]]:
    """Events of all requests, each of which has to be signed."""
    events: list[dict[str, Any]] = []
    for request in receiver.received:
        Webhook(SECRET).verify(request.body, dict(request.headers))
        events += json.loads(request.body)
    return events


def actions(receiver: ScriptedReceiver) -> list[str]:
    return [one["action"] for one in arrived(receiver)]


def watch(gateway: Gateway, replica: str, *, alone: bool = True) -> DeliveryWatch:
    context = gateway.context
    own = Process.new(replica, 0, 1)
    processes = Processes(own, context.key_store, context.clock, alone=alone)
    return DeliveryWatch(
        context.health, processes, context.key_store, context.writer, context.clock
    )


async def recorded(gateway: Gateway, *actions: str) -> list[dict[str, Any]]:
    """Records of these actions in the log."""
    page = await gateway.pull(gateway.admin, category="gateway.delivery")
    return [one for one in page["events"] if one["action"] in actions]


async def test_what_somebody_has_to_act_on_arrives_signed_and_its_end_follows(
    gateway: Gateway, receiver: ScriptedReceiver, advanced: AdvancedClock
) -> None:
    await notify(gateway, receiver)
    scripted = Receiver()
    gateway.context.deliveries.parts.outlets.types["scripted"] = scripted.outlet_type()
    scripted.answer = lambda batch: DOWN
    await make(gateway, await gateway.reader_key())
    await gateway.send(event(id="a", category="auth"))
    siem = gateway.context.deliveries

    def failing() -> bool:
        status = siem.status_of("siem")
        return status is not None and status.failing_since > 0

    await eventually(failing, "it fails")
    # A finding of a key that has probed where it may not.
    stranger = await gateway.reader_key()
    for _ in range(5):
        assert (await gateway.get("/v1/keys", key=stranger)).status == 403
    await gateway.context.detector.poll()
    await eventually(lambda: "anomaly.denials" in actions(receiver), "the finding arrived")
    # Its next record, when the count has doubled, is no notice.
    for _ in range(10):
        assert (await gateway.get("/v1/keys", key=stranger)).status == 403
    await gateway.context.detector.poll()

    async def of_finding() -> list[bool]:
        page = await gateway.pull(gateway.admin, category="gateway.anomaly")
        found = [one for one in page["events"] if one["action"] == "anomaly.denials"]
        return [one["data"]["opened"] for one in found]

    await becomes(of_finding, lambda opened: opened == [True, False])
    # A key that ends in a day.
    short = await gateway.post(
        "/v1/keys", key=gateway.admin,
        json={
            "name": "short", "purpose": "p", "owner": "o", "expires_in": "1441m",
            "grants": [{"actions": ["stream"], "categories": ["auth"]}],
        },
    )  # fmt: skip
    assert short.status == 201, short.body
    # Receivers refuse signatures that are more than five minutes away.
    advanced.shift += 100
    await gateway.context.deliveries.poll()
    await eventually(
        lambda: {"key.expiring", "destination.down"} <= set(actions(receiver)), "both arrived"
    )
    scripted.answer = lambda batch: SUCCESS
    await eventually(lambda: "destination.resolved" in actions(receiver), "and the end")
    await gateway.post(f"/v1/keys/{key_id(short.json()['key'])}/revoke", key=gateway.admin)
    await eventually(lambda: "key.revoked" in actions(receiver), "and that of the key")
    events = arrived(receiver)
    down, up = (
        next(one for one in events if one["action"] == f"destination.{what}")
        for what in ("down", "resolved")
    )
    assert down["data"]["destination"] == up["data"]["destination"] == "siem"
    assert (down["data"]["kind"], down["outcome"], up["outcome"]) == (
        "connect", "failure", "success",
    )  # fmt: skip
    assert down["data"]["since"] == up["data"]["since"]
    once = ("destination.down", "destination.resolved", "anomaly.denials", "key.expiring")
    assert {one: actions(receiver).count(one) for one in once} == dict.fromkeys(once, 1)
    assert "stream.opened" not in actions(receiver)


async def test_delivery_that_is_stalled_is_recorded_once_whoever_watches_and_its_end_follows(
    gateway: Gateway,
    receiver: ScriptedReceiver,
    advanced: AdvancedClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await notify(gateway, receiver)
    first, second = (watch(gateway, name, alone=False) for name in ("gw-1", "gw-2"))
    with monkeypatch.context() as fault:
        fault.setattr(type(gateway.context.canary), "behind", 6.0)
        await first.poll()
        await second.poll()
        assert len(await recorded(gateway, "delivery.stalled")) == 1
        # The one that watches ends, and the other goes on with what was recorded.
        advanced.shift += 31
        await second.poll()
        await first.poll()
    for seconds in (0, BETTER_SECONDS - 5):
        advanced.shift += seconds
        await second.poll()
        assert await recorded(gateway, "delivery.resolved") == []
    advanced.shift += 6
    await second.poll()
    await first.poll()
    await eventually(
        lambda: actions(receiver).count("delivery.resolved") == 1, "both ends have arrived"
    )
    assert actions(receiver).count("delivery.stalled") == 1
    [end] = await recorded(gateway, "delivery.resolved")
    assert (end["severity"], end["data"]["before"]) == (4, "stalled")


async def test_a_time_without_a_store_is_recorded_when_it_is_there_again(
    gateway: Gateway, advanced: AdvancedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, store = watch(gateway, "gw-1"), gateway.context.key_store

    async def away(*_: object) -> bytes:
        raise Unavailable("the database does not answer", code="store_slow")

    with monkeypatch.context() as fault:
        fault.setattr(store, "note", away)
        await one.poll()
        begun = gateway.context.clock.now()
        advanced.shift += 20
        await one.poll()
    await one.poll()
    [down] = await recorded(gateway, "delivery.down")
    assert down["severity"] == 5
    assert abs(parse_rfc3339(down["time"]) / 1e6 - begun) < 10
    await one.poll()
    advanced.shift += BETTER_SECONDS
    await one.poll()
    assert len(await recorded(gateway, "delivery.down", "delivery.resolved")) == 2


async def test_one_that_is_down_itself_tells_of_it_once_when_it_is_back(
    gateway: Gateway, receiver: ScriptedReceiver, advanced: AdvancedClock
) -> None:
    receiver.good = lambda _: Reply(503)
    await notify(gateway, receiver)
    key = await gateway.reader_key()
    await gateway.post(f"/v1/keys/{key_id(key)}/revoke", key=gateway.admin)
    await eventually(lambda: len(receiver.received) >= 2, "it is tried again and again")
    advanced.shift += 61
    await becomes(lambda: recorded(gateway, "destination.down"), lambda found: len(found) == 1)
    advanced.shift += 61
    await gateway.context.deliveries.poll()
    assert len(await recorded(gateway, "destination.down")) == 1
    receiver.received.clear()
    receiver.good = lambda _: Reply(204)
    await eventually(lambda: "destination.resolved" in actions(receiver), "it is back")
    for _ in range(2):
        advanced.shift += 61
        await gateway.context.deliveries.poll()
    both = await recorded(gateway, "destination.down", "destination.resolved")
    assert [one["action"] for one in both] == ["destination.down", "destination.resolved"]
    assert actions(receiver).count("destination.down") == 1


async def test_several_notices_within_the_wait_are_one_request(
    gateway: Gateway, receiver: ScriptedReceiver
) -> None:
    await notify(gateway, receiver, batch={"max_wait": "2s"})
    for _ in range(5):
        key = await gateway.reader_key()
        await gateway.post(f"/v1/keys/{key_id(key)}/revoke", key=gateway.admin)
    await eventually(lambda: actions(receiver).count("key.revoked") == 5, "all have arrived")
    assert len(receiver.received) <= 2
