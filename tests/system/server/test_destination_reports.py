"""What is said of destinations beside their health: findings, records and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from gateway_client import event, key_id
from gateways import Gateway, ShiftedClock, Start
from open_streams import open_stream

from gateway.delivery.outlets.outlet import (
    SUCCESS,
    DeliveryResult,
    DeliveryVerdict,
    EncodedEvent,
    OutletLimits,
)
from gateway.delivery.ports import DeadLetter
from gateway.delivery.running.delivery_reports import DeliveryReports
from gateway.errors import Unavailable
from gateway.oversight.detection.signals import Signal
from tests.support.machine_time import becomes, eventually
from tests.support.scripted_outlet import Receiver

DOWN = DeliveryVerdict(DeliveryResult.TRANSIENT, kind="connect", message="refused")
REFUSED = DeliveryVerdict(DeliveryResult.PERMANENT, kind="http", status=400, message="bad field")


class AdvancedClock(ShiftedClock):
    """A clock whose every time may be set forward."""

    def monotonic(self) -> float:
        return super().monotonic() + self.shift


@pytest.fixture
def advanced() -> AdvancedClock:
    return AdvancedClock()


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def gateway(start: Start, receiver: Receiver, advanced: AdvancedClock) -> Gateway:
    gateway = await start(clock=advanced)
    gateway.context.deliveries.parts.outlets.types = {"scripted": receiver.outlet_type()}
    return gateway


async def make(gateway: Gateway, key: str) -> None:
    body = {
        "name": "siem", "type": "scripted", "key": key_id(key), "settings": {"url": "x"},
        "retry": {"min": "1ms", "max": "20ms"},
    }  # fmt: skip
    answer = await gateway.post("/v1/destinations", key=gateway.admin, json=body)
    assert answer.status == 201, answer.body


async def findings(gateway: Gateway, signal: str) -> Any:
    answer = await gateway.get(f"/v1/findings?signal={signal}", key=gateway.admin)
    return answer.json()["findings"]


async def test_one_that_fails_for_five_minutes_is_a_finding_of_its_key(
    gateway: Gateway, receiver: Receiver, advanced: AdvancedClock
) -> None:
    receiver.answer = lambda batch: DOWN
    reader = await gateway.reader_key()
    await make(gateway, reader)
    await gateway.send(event(id="a", category="auth"))

    async def shown() -> Any:
        return (await gateway.get("/v1/destinations/siem", key=gateway.admin)).json()

    await becomes(shown, lambda seen: seen["state"] == "failing")
    assert await findings(gateway, "destination_failing") == []
    advanced.shift += 301
    [found] = await becomes(lambda: findings(gateway, "destination_failing"), bool)
    assert (found["key"], found["count"]) == (key_id(reader), 1)
    assert found["data"] == {"destination": "siem", "kind": "connect"}


@pytest.mark.parametrize("state", ["paused", "failing"])
async def test_a_position_that_retention_comes_near_to_is_a_finding_of_the_key(
    start: Start, receiver: Receiver, advanced: AdvancedClock, state: str
) -> None:
    gateway = await start(clock=advanced, store={"retention_age": 36_000})
    gateway.context.deliveries.parts.outlets.types = {"scripted": receiver.outlet_type()}
    receiver.answer = lambda batch: DOWN
    reader = await gateway.reader_key()
    await make(gateway, reader)
    if state == "paused":
        await gateway.post("/v1/destinations/siem/pause", key=gateway.admin)
    await gateway.send(event(id="a", category="auth"))

    async def shown() -> Any:
        return (await gateway.get("/v1/destinations/siem", key=gateway.admin)).json()

    await becomes(shown, lambda seen: seen["state"] == state)
    advanced.shift += 0.85 * 36_000
    [found] = await becomes(lambda: findings(gateway, "position_at_risk"), bool)
    assert (found["key"], found["count"]) == (key_id(reader), 1)
    assert found["data"]["destination"] == "siem"
    assert found["data"]["events"] >= 1
    assert found["data"]["seconds"] >= 0.85 * 36_000
    assert "position_at_risk" in await gateway.reasons()


async def test_refused_events_are_a_finding_and_a_record_that_sums_them_up(
    gateway: Gateway, receiver: Receiver, advanced: AdvancedClock
) -> None:
    def answer(batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        return (
            REFUSED if any(one.outbound.members.id.startswith("bad") for one in batch) else SUCCESS
        )

    receiver.answer = answer
    await make(gateway, await gateway.reader_key())
    for name in ("a", "bad1", "b", "bad2", "c"):
        await gateway.send(event(id=name, category="auth"))
    store = gateway.context.destination_store
    await becomes(lambda: store.count_dead_letters("siem"), lambda count: count == 2)
    advanced.shift += 61
    [found] = await becomes(lambda: findings(gateway, "destination_rejecting"), bool)
    assert (found["count"], found["data"]["reasons"]) == (2, {"http": 2})
    page = await gateway.pull(gateway.admin, category="gateway.delivery")
    [record] = [one for one in page["events"] if one["action"] == "destination.rejected"]
    assert record["data"]["count"] == 2
    assert {"urn": "destination:siem", "type": "destination"} in record["targets"]


async def test_what_cannot_be_told_now_of_one_destination_keeps_nothing_of_others_back(
    gateway: Gateway, advanced: AdvancedClock
) -> None:
    await gateway.context.deliveries.close()
    key = key_id(await gateway.reader_key())
    for name in ("one", "two"):
        body = {"name": name, "type": "scripted", "key": key, "settings": {"url": "x"}}
        made = await gateway.post("/v1/destinations", key=gateway.admin, json=body)
        assert made.status == 201, made.body
    parts, told = gateway.context.deliveries.parts, []

    async def report(signal: Signal, key_id: str) -> None:
        told.append(signal.data["destination"])
        if len(told) == 1:
            raise Unavailable("away", code="store_unavailable")

    reports = DeliveryReports(parts, report)
    known = {one.name: one for one in await parts.store.all()}
    letter = DeadLetter(
        cursor="abc-1", event_id="e", tenant="acme", reason="http", attempts=3, at=1.0
    )
    advanced.shift += 61
    parts.refused |= {"one": [letter], "two": [letter]}
    with pytest.raises(Unavailable):
        await reports.tell({}, known)
    await reports.tell({}, known)
    assert told == ["one", "two"]


async def test_what_a_receiver_quotes_of_events_is_shown_to_nobody_who_looks_at_destinations(
    gateway: Gateway, receiver: Receiver, advanced: AdvancedClock
) -> None:
    planted = "planted-4711"
    quoting = REFUSED._replace(message=f"Preview of field's value: '{planted}'")
    receiver.answer = lambda batch: quoting
    receiver.limits = OutletLimits(1, 1 << 20, 1 << 20, 0.01)
    await make(gateway, await gateway.reader_key())
    events = [event(category="auth", data={"card": planted}) for _ in range(40)]
    await gateway.send(*events)
    shown = partial(gateway.get, "/v1/destinations/siem", key=gateway.admin)
    await becomes(shown, lambda answer: answer.json()["state"] == "disabled")
    advanced.shift += 61
    await becomes(lambda: findings(gateway, "destination_rejecting"), bool)
    page = await gateway.pull(gateway.admin, category="gateway.**")
    assert "destination.rejected" in [one["action"] for one in page["events"]]
    letters = await gateway.get("/v1/destinations/siem/dead-letters", key=gateway.admin)
    assert len(letters.json()["dead_letters"]) == 32
    told = [await shown(), letters, await gateway.get("/v1/findings", key=gateway.admin)]
    assert not [one for one in told if planted.encode() in one.body]
    assert not [one for one in page["events"] if planted in str(one)]
    # What it says of the test event is nobody's.
    receiver.test_answer = quoting
    tried = await gateway.post("/v1/destinations/siem/test", key=gateway.admin)
    assert planted in tried.json()["message"]


@pytest.mark.parametrize("result", [DeliveryResult.CONFIG, DeliveryResult.TRANSIENT])
async def test_what_a_receiver_quotes_of_events_whatever_fails_is_not_shown(
    gateway: Gateway, receiver: Receiver, result: DeliveryResult
) -> None:
    def answer(batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        said = f"token expired, dropped {batch[0].json.decode()[-150:]}"
        return DeliveryVerdict(result, kind="http", status=401, message=said)

    receiver.answer = answer
    await make(gateway, await gateway.reader_key())
    await gateway.send(*(event(category="auth", data={"card": f"planted-{n}"}) for n in range(40)))
    shown = partial(gateway.get, "/v1/destinations/siem", key=gateway.admin)
    seen = await becomes(shown, lambda answer: answer.json()["state"] == "failing")
    assert seen.json()["last_error"]["message"].startswith("token expired, dropped ")
    assert b"planted" not in seen.body


async def test_a_replaced_secret_is_kept_for_its_overlap_and_no_longer(
    gateway: Gateway, advanced: AdvancedClock
) -> None:
    await make(gateway, await gateway.reader_key())
    path, store = "/v1/destinations/siem/secrets/token", gateway.context.destination_store
    for value in ("first", "second"):
        body = {"value": value, "overlap": "1h"}
        answer = await gateway.request("PUT", path, key=gateway.admin, json=body)
        assert answer.status == 200, answer.body

    async def kept() -> int:
        stored = await store.get("siem")
        return 0 if stored is None else len(stored.secrets["token"])

    assert await kept() == 2
    advanced.shift += 3500
    assert await kept() == 2
    advanced.shift += 200
    await becomes(kept, lambda count: count == 1)
    [shown] = (await gateway.get("/v1/destinations", key=gateway.admin)).json()["destinations"]
    assert shown["secrets"]["token"]["set"] is True


async def test_metrics_tell_states_lags_and_results_of_each_destination(
    gateway: Gateway, receiver: Receiver
) -> None:
    reader = await gateway.reader_key()
    await make(gateway, reader)
    ids = await gateway.send_many(3, category="auth")
    await eventually(lambda: receiver.ids == ids, "they arrived")
    receiver.answer = lambda batch: DOWN
    await gateway.send_many(2, category="auth")

    async def metrics() -> dict[str, float]:
        found = await gateway.metrics()
        return {
            name.removeprefix("destination_").replace('destination="siem"', "siem"): value
            for name, value in found.items()
        }

    await becomes(metrics, lambda seen: seen['state{siem,state="failing"}'] == 1)
    seen = await becomes(metrics, lambda seen: seen["lag_events{siem}"] >= 2)
    assert seen['state{siem,state="active"}'] == 0
    assert seen["delivered_events_total{siem}"] == 3
    assert seen["lag_seconds{siem}"] > 0
    assert seen['requests_total{siem,result="success"}'] >= 1
    assert seen['requests_total{siem,result="transient"}'] >= 1
    assert seen["retries_total{siem}"] >= 1
    assert seen["rejected_events_total{siem}"] == 0
    assert seen["request_seconds_count{siem}"] >= 2
    await gateway.post("/v1/destinations/siem/pause", key=gateway.admin)
    await becomes(metrics, lambda seen: seen['state{siem,state="paused"}'] == 1)
    await gateway.request("DELETE", "/v1/destinations/siem", key=gateway.admin)
    assert not [name for name in await metrics() if "siem" in name]


async def test_a_destination_takes_one_of_the_streams_that_its_key_may_have(
    gateway: Gateway, receiver: Receiver
) -> None:
    grant = {"actions": ["stream"], "categories": ["auth"]}
    reader = await gateway.mint(grant, limits={"concurrent_streams": 1})
    stream = await open_stream(gateway, "ndjson", reader)
    await make(gateway, reader)

    async def shown() -> Any:
        return (await gateway.get("/v1/destinations/siem", key=gateway.admin)).json()

    seen = await becomes(shown, lambda seen: seen["state"] == "failing")
    assert seen["last_error"]["kind"] == "too_many_streams"
    stream.close()
    ids = await gateway.send_many(2, category="auth")
    await eventually(lambda: receiver.ids == ids, "its place is free")
