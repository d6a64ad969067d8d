"""Attacks on destinations by keys that administer them: none sees or sends more than it may."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gateway_client import key_id
from gateways import Gateway, Start

from gateway.delivery.destination import OWNER
from gateway.delivery.outlets.outlet import SUCCESS, DeliveryResult, DeliveryVerdict
from tests.support.machine_time import eventually, patience
from tests.support.scripted_outlet import Receiver, ScriptedOutlet

BUSY = DeliveryVerdict(DeliveryResult.TRANSIENT, kind="http", status=503)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def gateway(start: Start, receiver: Receiver) -> Gateway:
    gateway = await start()
    gateway.context.deliveries.parts.outlets.types = {"scripted": receiver.outlet_type()}
    return gateway


def body(key: str, **members: Any) -> dict[str, Any]:
    return {
        "name": "siem", "type": "scripted", "key": key_id(key), "settings": {"url": "x"},
        "retry": {"min": "1ms", "max": "20ms"}, **members,
    }  # fmt: skip


async def test_a_secret_is_not_sent_to_another_address_than_it_was_given_for(
    gateway: Gateway,
) -> None:
    reader = await gateway.reader_key()
    url = "https://siem.example.org/in"
    members = {"settings": {"url": url}, "secrets": {"token": "s3cret"}}
    made = await gateway.post("/v1/destinations", key=gateway.admin, json=body(reader, **members))
    assert made.status == 201, made.body

    async def patch(url: str, **members: Any) -> Any:
        return await gateway.request(
            "PATCH", "/v1/destinations/siem", key=gateway.admin,
            json={"settings": {"url": url}, **members},
        )  # fmt: skip

    for elsewhere in (
        "https://evil.example.org/in", "https://siem.example.org:8443/in",
        "http://siem.example.org/in",
    ):  # fmt: skip
        refused = await patch(elsewhere)
        refused.problem(400, "secrets_needed")
        assert refused.json()["path"] == "secrets.token"
    shown = await gateway.get("/v1/destinations/siem", key=gateway.admin)
    assert shown.json()["settings"] == {"url": url}
    assert (await patch("https://siem.example.org/other")).status == 200
    assert (await patch("https://evil.example.org/in", secrets={"token": "new"})).status == 200


async def test_who_makes_one_a_second_time_at_once_does_not_move_its_position(
    gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = await gateway.reader_key()
    ids = await gateway.send_many(3, category="auth")
    receiver.answer = lambda batch: BUSY
    first = await gateway.post(
        "/v1/destinations", key=gateway.admin, json=body(reader, **{"from": "start"})
    )
    assert first.status == 201, first.body

    async def not_yet(name: str) -> None:
        return None

    with monkeypatch.context() as patch:
        # As seen by a request that came at the same time.
        patch.setattr(gateway.context.destination_store, "get", not_yet)
        second = await gateway.post("/v1/destinations", key=gateway.admin, json=body(reader))
    second.problem(409, "destination_exists")
    stored = await gateway.context.consumer_store.get(OWNER, "siem")
    assert stored is not None
    assert stored.cursor == first.json()["cursor"]
    receiver.answer = lambda batch: SUCCESS
    await eventually(lambda: receiver.ids[:3] == ids, "nothing was skipped")


async def test_a_name_ends_without_a_line_break(gateway: Gateway) -> None:
    reader = await gateway.reader_key()
    refused = await gateway.post(
        "/v1/destinations", key=gateway.admin, json=body(reader, name="siem\n")
    )
    refused.problem(400, "invalid_destination")


async def test_a_receiver_that_cannot_be_closed_does_not_hold_up_the_end(
    gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed = asyncio.Event()

    async def hanging(outlet: ScriptedOutlet) -> None:
        await freed.wait()

    monkeypatch.setattr(ScriptedOutlet, "close", hanging)
    monkeypatch.setattr("gateway.delivery.running.deliveries._STOP_SECONDS", 0.01)
    monkeypatch.setattr("gateway.delivery.running.deliveries._GONE_SECONDS", 0.01)
    receiver.held.clear()
    reader = await gateway.reader_key()
    await gateway.post("/v1/destinations", key=gateway.admin, json=body(reader))
    await gateway.send_many(1, category="auth")
    await eventually(lambda: receiver.most_at_once == 1, "a request is under way")
    try:
        async with asyncio.timeout(patience()):
            await gateway.context.deliveries.close()
    finally:
        freed.set()
    assert receiver.taken == []


async def test_a_receiver_that_can_be_prepared_again_fails_no_more_although_no_event_comes(
    gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [BUSY, BUSY, SUCCESS]
    released = asyncio.Event()

    async def prepare(outlet: ScriptedOutlet) -> DeliveryVerdict:
        if len(answers) == 2:
            await released.wait()
        return answers.pop(0) if len(answers) > 1 else SUCCESS

    async def state() -> str:
        answer = await gateway.get("/v1/destinations/siem", key=gateway.admin)
        return str(answer.json()["state"])

    monkeypatch.setattr(ScriptedOutlet, "open", prepare)
    # Nothing of the gateway's own either.
    reader = await gateway.mint({"actions": ["stream"], "categories": ["nothing"]})
    await gateway.post("/v1/destinations", key=gateway.admin, json=body(reader))
    async with asyncio.timeout(patience()):
        while await state() != "failing":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        released.set()
        while await state() != "active":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
