"""One process at a time delivers a destination, and another goes on where it was."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from gateway_client import key_id
from gateways import Gateway, ShiftedClock, Start, StoppedClock
from msgspec.structs import replace

from gateway.delivery.destination import OWNER, Destination
from gateway.delivery.outlets.outlet import OutletLimits
from gateway.delivery.running.deliveries import DeliverySupervisor
from gateway.errors import Unavailable
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow
from tests.support.machine_time import becomes, eventually, patience
from tests.support.scripted_outlet import Receiver


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def gateway(start: Start, receiver: Receiver, shifted: ShiftedClock) -> Gateway:
    gateway = await start(clock=shifted)
    gateway.context.deliveries.parts.outlets.types = {"scripted": receiver.outlet_type()}
    # Others take its place in these tests.
    await gateway.context.deliveries.close()
    return gateway


def process(gateway: Gateway, name: str) -> DeliverySupervisor:
    context = gateway.context
    return DeliverySupervisor(
        context.deliveries.parts, context.consumer_store, name, context.detector.findings.add
    )


async def make(gateway: Gateway) -> None:
    body = {
        "name": "siem", "type": "scripted", "key": key_id(await gateway.reader_key()),
        "settings": {"url": "x"},
    }  # fmt: skip
    answer = await gateway.post("/v1/destinations", key=gateway.admin, json=body)
    assert answer.status == 201, answer.body


async def test_after_a_clean_stop_another_goes_on_at_once_and_repeats_nothing(
    gateway: Gateway, receiver: Receiver
) -> None:
    await make(gateway)
    one, other = process(gateway, "one"), process(gateway, "other")
    await one.poll()
    await other.poll()
    assert (one.status_of("siem") is None, other.status_of("siem") is None) == (False, True)
    ids = await gateway.send_many(5, category="auth")
    await eventually(lambda: receiver.ids == ids, "they arrived")
    await one.close()
    assert receiver.open == 0
    # It looks for what nobody holds once a second.
    async with asyncio.timeout(patience()):
        while other.status_of("siem") is None:
            await other.poll()
            await asyncio.sleep(0.05)
    ids += await gateway.send_many(5, category="auth")
    await eventually(lambda: receiver.ids == ids, "others arrived")
    await other.close()


async def test_a_process_that_was_frozen_sends_and_moves_nothing_when_it_wakes_up(
    gateway: Gateway, receiver: Receiver, shifted: ShiftedClock
) -> None:
    await make(gateway)
    frozen, other = process(gateway, "frozen"), process(gateway, "other")
    await frozen.poll()
    ids = await gateway.send_many(5, category="auth")
    await eventually(lambda: receiver.ids == ids, "they arrived")
    # It does not store its position, nor prolong its lease, any more.
    shifted.shift += 15
    await other.poll()
    row = await gateway.context.consumer_store.get(OWNER, "siem")
    assert row is not None
    assert row.reader.startswith("other/")
    # What was not stored is sent again, by the new holder alone.
    ids += await gateway.send_many(5, category="auth")
    await eventually(lambda: len(receiver.ids) == 15, "all arrived")
    assert receiver.ids == ids[:5] + ids
    assert receiver.most_at_once == 1
    await other.poll()
    told = await gateway.context.destination_store.status("siem")
    await frozen.poll()
    await frozen.close()
    # Nor does it say of the destination what it knew.
    assert await gateway.context.destination_store.status("siem") == told
    assert b'"replica":"other"' in (told or b"")
    await other.close()
    stored = await gateway.context.consumer_store.get(OWNER, "siem")
    assert stored is not None
    after = await gateway.context.consumer_store.get(OWNER, "siem")
    assert after is not None
    assert (after.cursor, after.generation) == (stored.cursor, stored.generation)


async def test_positions_are_stored_once_a_second_also_where_a_poll_comes_a_little_early(
    start: Start, receiver: Receiver
) -> None:
    clock = StoppedClock()
    gateway = await start(clock=clock)
    gateway.context.deliveries.parts.outlets.types = {"scripted": receiver.outlet_type()}
    await gateway.context.deliveries.close()
    receiver.limits = OutletLimits(1, 1 << 20, 1 << 20)
    await make(gateway)
    one = process(gateway, "one")
    await one.poll()
    ids = await gateway.send_many(1, category="auth")
    await eventually(lambda: receiver.ids == ids, "it arrived")
    store, positions = gateway.context.consumer_store, []
    for _ in range(2):
        clock.passed += 0.495
        await one.poll()
        row = await store.get(OWNER, "siem")
        assert row is not None
        positions.append(row.cursor)
    assert positions[0] < positions[1]
    await one.close()


async def held_again(deliveries: DeliverySupervisor) -> None:
    async with asyncio.timeout(patience()):
        while deliveries.status_of("siem") is None:
            await deliveries.poll()
            await asyncio.sleep(0.05)


async def test_one_whose_position_is_lost_begins_with_the_oldest_event_and_says_so(
    gateway: Gateway, receiver: Receiver
) -> None:
    await make(gateway)
    ids = await gateway.send_many(5, category="auth")
    await gateway.context.consumer_store.change(OWNER, "siem", lambda row, others: None)
    one = process(gateway, "one")
    await held_again(one)
    await eventually(lambda: receiver.ids == ids, "all arrived")
    page = await gateway.pull(gateway.admin, category="gateway.delivery")
    assert "destination.position_lost" in [event["action"] for event in page["events"]]
    await one.close()


async def test_how_far_one_is_stays_known_while_the_store_is_away(
    gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(gateway)
    store, one = gateway.context.consumer_store, process(gateway, "one")
    await one.poll()
    ids = await gateway.send_many(5, category="auth")
    await eventually(lambda: receiver.ids == ids, "they arrived")
    commit, refused = store.commit, [0]

    async def away(*_: object) -> dict[ConsumerKey, ConsumerRow]:
        refused[0] += 1
        raise Unavailable("away", code="store_unavailable")

    monkeypatch.setattr(store, "commit", away)
    path = "/v1/destinations/siem"
    await gateway.post(f"{path}/pause", key=gateway.admin)
    with suppress(Unavailable):
        await one.poll()
    await eventually(lambda: receiver.open == 0, "it has ended")
    # A change has it looked at now.
    await gateway.request("PATCH", path, key=gateway.admin, json={"on_gap": "fail"})
    before = refused[0]
    with pytest.raises(Unavailable):
        await one.poll()
    assert refused[0] > before, "its end was not stored"
    monkeypatch.setattr(store, "commit", commit)
    await gateway.post(f"{path}/resume", key=gateway.admin)
    await one.poll()
    ids += await gateway.send_many(1, category="auth")
    await eventually(lambda: len(receiver.ids) >= len(ids), "the next arrives")
    assert receiver.ids == ids, "nothing came twice"
    await one.close()


async def test_without_destinations_nothing_is_held_and_the_store_is_asked_for_a_number_alone(
    gateway: Gateway,
) -> None:
    one = process(gateway, "one")
    await one.poll()
    commits = gateway.context.consumer_store.commit_seconds
    written = list(commits.cells)
    for _ in range(3):
        await one.poll()
    assert commits.cells == written
    assert gateway.context.hub.subscriptions == {}


async def test_after_a_restore_under_a_new_epoch_it_begins_anew_and_says_what_is_missing(
    gateway: Gateway, receiver: Receiver
) -> None:
    ids = await gateway.send_many(3, category="auth")
    await make(gateway)
    store, log = gateway.context.consumer_store, gateway.context.log

    def of_before(row: ConsumerRow | None, others: int) -> ConsumerRow | None:
        assert row is not None
        elsewhere = "another-" + "0" * 18 + "77"
        return replace(row, cursor=elsewhere, sent=elsewhere)

    await store.change(OWNER, "siem", of_before)
    one = process(gateway, "one")
    await one.poll()
    await eventually(lambda: receiver.ids == ids, "it begins at the first event that is there")
    await one.poll()
    await one.close()
    row = await store.get(OWNER, "siem")
    assert row is not None
    assert row.cursor.startswith(log.epoch)
    page = await gateway.pull(gateway.admin, category="gateway.delivery")
    [gap] = [one for one in page["events"] if one["action"] == "destination.gap"]
    assert gap["data"]["reason"] == "cursor_unknown"


async def replay(gateway: Gateway) -> None:
    answer = await gateway.post(
        "/v1/destinations/siem/replay", key=gateway.admin, json={"from": "start"}
    )
    assert answer.status == 200, answer.body


async def test_a_replay_goes_on_with_the_next_process_from_its_begin(
    gateway: Gateway, receiver: Receiver
) -> None:
    ids = await gateway.send_many(3, category="auth")
    await make(gateway)
    await replay(gateway)
    one, other = process(gateway, "one"), process(gateway, "other")
    receiver.held.clear()
    await one.poll()
    await eventually(lambda: receiver.open == 2, "it goes on")
    await one.close()
    receiver.held.set()
    await other.poll()
    await eventually(lambda: receiver.ids[-3:] == ids, "it goes on elsewhere")

    async def state() -> str:
        await other.poll()
        found = await gateway.context.destination_store.get("siem")
        assert found is not None
        assert found.replay is not None
        return found.replay.outcome

    assert await becomes(state, bool) == "done"
    await other.close()


async def test_a_replay_of_another_log_ends_and_sends_nothing(
    gateway: Gateway, receiver: Receiver
) -> None:
    await gateway.send_many(3, category="auth")
    await make(gateway)
    await replay(gateway)
    store = gateway.context.destination_store

    def of_before(before: Destination | None, others: int) -> Destination | None:
        assert before is not None
        assert before.replay is not None
        elsewhere = "another-" + "0" * 19 + "1"
        return replace(before, replay=replace(before.replay, begin=elsewhere))

    await store.change("siem", of_before)
    one = process(gateway, "one")
    await one.poll()
    found = await store.get("siem")
    assert found is not None
    assert found.replay is not None
    assert (found.replay.outcome, found.replay.delivered) == ("other_log", 0)
    await one.close()
    assert receiver.taken == []
