"""What many destinations store beside live streams is stored together."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from gateway_client import key_id
from gateways import Gateway, Start

from gateway.delivery.running.deliveries import DeliverySupervisor
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
    context = gateway.context
    store = context.destination_store
    # No poll but those of the test.
    await context.deliveries.close()
    deliveries = DeliverySupervisor(
        context.deliveries.parts, context.consumer_store, "one", context.detector.findings.add
    )
    await make(gateway, *NAMES)
    await deliveries.poll()
    await gateway.send_many(5, category="auth")

    def delivered() -> bool:
        statuses = [deliveries.status_of(name) for name in NAMES]
        return all(one is not None and one.counters.delivered.events == 5 for one in statuses)

    await eventually(delivered, "they are delivered")
    stored: list[Mapping[str, bytes]] = []
    put = store.put_statuses

    async def counted(statuses: Mapping[str, bytes]) -> None:
        stored.append(dict(statuses))
        await put(statuses)

    monkeypatch.setattr(store, "put_statuses", counted)
    # Of what has not changed nothing is stored the second time.
    for _ in range(2):
        for name in NAMES:
            deliveries.parts.changed(name)
        await deliveries.poll()
    assert [sorted(one) for one in stored] == [list(NAMES)]
    assert await store.statuses() == stored[0]
    await deliveries.close()
