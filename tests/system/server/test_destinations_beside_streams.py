"""What destinations do beside live streams is done together, and when there is time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from gateway_client import key_id
from gateways import Gateway, Start

from gateway.delivery.outlets.outlet import OutletLimits
from gateway.scheduling.loop_work import LoopWork
from tests.support.machine_time import eventually
from tests.support.scripted_outlet import Receiver

NAMES = ("one", "three", "two")


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def gateway(start: Start, receiver: Receiver) -> Gateway:
    gateway = await start()
    gateway.context.deliveries.parts.outlets.types = {"scripted": receiver.outlet_type()}
    return gateway


async def make(gateway: Gateway, *names: str) -> None:
    key = key_id(await gateway.reader_key())
    for name in names:
        body = {
            "name": name, "type": "scripted", "key": key, "select": {"category": "auth"},
            "settings": {"url": "x"},
        }  # fmt: skip
        answer = await gateway.post("/v1/destinations", key=gateway.admin, json=body)
        assert answer.status == 201, answer.body


async def test_the_statuses_of_all_destinations_are_stored_in_one_transaction(
    gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(gateway, *NAMES)
    deliveries, store = gateway.context.deliveries, gateway.context.destination_store
    stored: list[Mapping[str, bytes]] = []
    put = store.put_statuses

    async def counted(statuses: Mapping[str, bytes]) -> None:
        stored.append(dict(statuses))
        await put(statuses)

    await gateway.send_many(5, category="auth")
    await eventually(lambda: len(receiver.taken) == 15, "they arrived")
    monkeypatch.setattr(store, "put_statuses", counted)
    for name in NAMES:
        deliveries.parts.changed(name)
    await deliveries.poll()
    assert [sorted(one) for one in stored] == [list(NAMES)]
    assert await store.statuses() == stored[0]
    # Of what has not changed nothing is stored.
    for name in NAMES:
        deliveries.parts.changed(name)
    await deliveries.poll()
    assert len(stored) == 1


@pytest.mark.parametrize(("most", "waits"), [(500, True), (1, False)])
async def test_a_batch_waits_for_a_lull_before_it_is_sent_unless_it_is_full(
    gateway: Gateway,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    waits: bool,
) -> None:
    lulls: list[int] = []
    lull = LoopWork.lull

    async def counted(work: LoopWork, within: float) -> None:
        lulls.append(len(receiver.batches))
        await lull(work, within)

    monkeypatch.setattr(LoopWork, "lull", counted)
    receiver.limits = OutletLimits(most, 1 << 20, 1 << 20, 0.05)
    await make(gateway, "siem")
    ids = await gateway.send_many(1, category="auth")
    await eventually(lambda: receiver.ids == ids, "it arrived")
    assert lulls == ([0] if waits else [])
