"""Destinations over HTTP: events of a key arrive at a receiver, each once, under its rights."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from gateway_client import Event, event, key_id
from gateways import Gateway, Start
from msgspec.structs import replace

from gateway.delivery.destination import (
    OWNER,
    Destination,
    SealedSecret,
    disabled,
    paused,
    with_secret,
    without_ended_secrets,
)
from gateway.delivery.outlets.outlet import (
    SUCCESS,
    DeliveryResult,
    DeliveryVerdict,
    EncodedEvent,
    OutboundEvent,
    Outlet,
    OutletLimits,
    RefusedEvent,
)
from gateway.delivery.ports import DestinationChange
from gateway.delivery.running.outlets import OutletOrder
from gateway.errors import InvalidRequest, Unavailable
from tests.support import machine_time
from tests.support.machine_time import eventually, patience
from tests.support.scripted_outlet import Receiver, ScriptedOutlet

TRANSIENT = DeliveryVerdict(DeliveryResult.TRANSIENT, kind="http", status=503, message="busy")
REFUSED = DeliveryVerdict(DeliveryResult.PERMANENT, kind="http", status=400, message="no s3cret")
QUICK = {"min": "1ms", "max": "20ms"}


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
        "retry": QUICK, **members,
    }  # fmt: skip


async def make(gateway: Gateway, key: str, **members: Any) -> Any:
    answer = await gateway.post("/v1/destinations", key=gateway.admin, json=body(key, **members))
    assert answer.status == 201, answer.body
    return answer.json()


async def shown(gateway: Gateway, name: str = "siem") -> Any:
    answer = await gateway.get(f"/v1/destinations/{name}", key=gateway.admin)
    assert answer.status == 200, answer.body
    return answer.json()


async def arrives(receiver: Receiver, ids: Sequence[str]) -> None:
    await eventually(lambda: len(receiver.ids) >= len(ids), f"{len(ids)} events arrived")
    assert receiver.ids == list(ids)


async def shown_when(gateway: Gateway, condition: Callable[[Any], bool]) -> Any:
    """The destination, once it is as wanted."""
    async with asyncio.timeout(patience()):
        while not condition(seen := await shown(gateway)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return seen


async def becomes(gateway: Gateway, state: str) -> Any:
    return await shown_when(gateway, lambda seen: seen["state"] == state)


async def test_events_arrive_in_order_from_where_it_was_made_and_the_position_follows(
    gateway: Gateway, receiver: Receiver
) -> None:
    reader = await gateway.reader_key()
    before = await gateway.send_many(3, category="auth")
    made = await make(gateway, reader)
    assert (made["state"], made["secrets"]) == ("active", {})
    ids = await gateway.send_many(1200, category="auth")
    await arrives(receiver, ids)
    assert not set(before) & set(receiver.ids)
    assert receiver.most_at_once == 1
    seen = await shown_when(gateway, lambda seen: seen["delivered"]["events"] >= 1200)
    assert seen["confirmation"] == "stored"
    assert seen["last_success"]
    other = await gateway.context.consumer_store.get(OWNER, "siem")
    assert other is not None


async def test_from_the_start_it_delivers_what_its_selection_and_its_key_let_through(
    gateway: Gateway, receiver: Receiver
) -> None:
    reader = await gateway.reader_key(fields={"mask": ["actor.name"], "drop": ["data"]})
    await gateway.send(
        event(id="a", category="auth", severity=4, actor={"name": "Mallory"}, data={"card": "41"}),
        event(id="b", category="auth", severity=1),
        event(id="c", category="billing", severity=5),
    )
    select = {"category": ["auth.**", "auth"], "min_severity": 2, "filter": "severity < 5"}
    await make(gateway, reader, **{"from": "start"}, select=select)
    await arrives(receiver, ["a"])
    assert receiver.taken[0]["actor"]["name"] == "***"
    assert "data" not in receiver.taken[0]


async def test_it_delivers_the_pseudonyms_that_its_key_sees_and_the_same_again_in_a_replay(
    gateway: Gateway, receiver: Receiver
) -> None:
    grant = {"actions": ["stream", "pull"], "categories": ["auth"],
             "fields": {"pseudonymize": ["actor", "data.user"]}}  # fmt: skip
    reader = await gateway.mint(grant)
    await make(gateway, reader)
    members = {"category": "auth", "actor": {"id": "alice"}, "data": {"user": {"id": "alice"}}}
    await gateway.send(*(event(id=one, **members) for one in ("a", "b")))
    await arrives(receiver, ["a", "b"])
    page = (await gateway.pull(reader))["events"]
    assert receiver.taken == page
    actor = page[0]["actor"]["id"]
    assert actor == page[1]["data"]["user"]["id"] != "alice"
    path = "/v1/destinations/siem/replay"
    part = {"from": "start", "to": page[1]["cursor"]}
    assert (await gateway.post(path, key=gateway.admin, json=part)).status == 200
    await shown_when(gateway, lambda seen: seen["replay"]["state"] == "done")
    assert receiver.taken == page * 2


async def test_what_the_receiver_does_not_take_now_is_sent_again_and_nothing_is_lost(
    gateway: Gateway, receiver: Receiver
) -> None:
    failures = iter([TRANSIENT] * 4)
    receiver.answer = lambda batch: next(failures, SUCCESS)
    await make(gateway, await gateway.reader_key())
    ids = await gateway.send_many(130, category="auth")
    await arrives(receiver, ids)
    seen = await shown(gateway)
    assert seen["retries"] == 4
    assert seen["last_error"]["status"] == 503
    # The first that is taken after failures is small.
    assert receiver.batches[4] <= 50


async def test_a_receiver_that_is_away_shows_as_failing_and_as_active_when_it_is_back(
    gateway: Gateway, receiver: Receiver
) -> None:
    receiver.answer = lambda batch: TRANSIENT
    await make(gateway, await gateway.reader_key())
    ids = await gateway.send_many(3, category="auth")
    seen = await becomes(gateway, "failing")
    assert seen["last_error"]["kind"] == "http"
    assert seen["last_error"]["message"] == "busy"
    assert seen["lag"]["events"] >= 3
    receiver.answer = lambda batch: SUCCESS
    await arrives(receiver, ids)
    await becomes(gateway, "active")


async def test_health_is_of_one_moment_whatever_happens_while_it_is_answered(
    gateway: Gateway, receiver: Receiver
) -> None:
    await make(gateway, await gateway.reader_key(categories=["auth"]))
    await arrives(receiver, await gateway.send_many(1, category="auth"))
    await shown_when(gateway, lambda seen: seen["last_success"])
    before = gateway.context.deliveries.status_of("siem")
    receiver.answer = lambda batch: TRANSIENT
    await gateway.send_many(1, category="auth")
    await becomes(gateway, "failing")
    receiver.answer = lambda batch: SUCCESS
    await becomes(gateway, "active")
    assert before is not None
    assert (before.counters.retries, before.counters.delivered.events) == (0, 1)
    assert (before.failing_since, before.last_error) == (0.0, None)


async def test_one_poisoned_event_is_a_dead_letter_and_the_others_arrive(
    gateway: Gateway, receiver: Receiver
) -> None:
    def answer(batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        return REFUSED if any(one.outbound.members.id == "bad" for one in batch) else SUCCESS

    receiver.answer = answer
    await make(gateway, await gateway.reader_key(), secrets={"token": "s3cret"})
    good: list[Event] = [event(id=f"g{n}", category="auth", data={"n": n}) for n in range(40)]
    bad = event(id="bad", category="auth", tenant="acme", data={"n": "x"})
    await gateway.send(*good[:20], bad, *good[20:])
    await eventually(lambda: len(receiver.ids) >= 40, "the good ones arrived")
    assert sorted(receiver.ids) == sorted(one["id"] for one in good)
    seen = await shown_when(gateway, lambda seen: seen["dead_letters"] >= 1)
    assert seen["rejected"] == 1
    [letter] = await gateway.context.destination_store.dead_letters("siem", "", 10)
    assert (letter.event_id, letter.tenant, letter.status) == ("bad", "acme", 400)
    assert letter.reason == "http"


async def test_a_receiver_that_refuses_everything_fails_and_nothing_is_dead_lettered(
    gateway: Gateway, receiver: Receiver
) -> None:
    receiver.answer = lambda batch: REFUSED
    receiver.test_answer = REFUSED
    await make(gateway, await gateway.reader_key())
    ids = await gateway.send_many(60, category="auth")
    await becomes(gateway, "failing")
    await eventually(lambda: receiver.tests >= 3, "it was tried a few times")
    seen = await shown(gateway)
    assert (seen["state"], seen["dead_letters"]) == ("failing", 0)
    receiver.answer, receiver.test_answer = (lambda batch: SUCCESS), SUCCESS
    await arrives(receiver, ids)


async def test_one_that_takes_no_event_but_the_test_event_is_disabled_after_a_few_dead_letters(
    gateway: Gateway, receiver: Receiver
) -> None:
    receiver.answer = lambda batch: REFUSED
    receiver.limits = OutletLimits(1, 1 << 20, 1 << 20, 0.01)
    await make(gateway, await gateway.reader_key())
    await gateway.send_many(60, category="auth")
    seen = await becomes(gateway, "disabled")
    assert (seen["reason_code"], seen["dead_letters"]) == ("too_many_rejected", 32)
    # Those that are no dead letters come when it goes on.
    receiver.answer = lambda batch: SUCCESS
    await gateway.post("/v1/destinations/siem/resume", key=gateway.admin)
    await eventually(lambda: len(receiver.ids) == 28, "the rest arrives")


async def test_a_receiver_that_is_gone_disables_and_its_words_are_shown(
    gateway: Gateway, receiver: Receiver
) -> None:
    gone = DeliveryVerdict(DeliveryResult.CONFIG, kind="http", status=410, message="b", gone=True)
    receiver.answer = lambda batch: gone
    await make(gateway, await gateway.reader_key())
    await gateway.send_many(1, category="auth")
    seen = await becomes(gateway, "disabled")
    assert seen["reason_code"] == "gone"
    assert seen["last_error"]["status"] == 410
    assert "next_attempt" not in seen


@pytest.mark.parametrize("how", ["refuses everything", "confirms nothing that it took"])
async def test_pauses_grow_while_a_receiver_only_seems_to_work(
    gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    failures: list[int] = []

    def at_once(before: int, *others: float) -> float:
        failures.append(before)
        return 0.001

    monkeypatch.setattr("gateway.delivery.running.worker.pause", at_once)
    if how == "refuses everything":
        receiver.answer, receiver.test_answer = (lambda batch: REFUSED), REFUSED
    else:
        receiver.limits = receiver.limits._replace(unconfirmed=16)
        receiver.answer = lambda batch: SUCCESS._replace(receipt=object())
        receiver.confirmation = TRANSIENT
    await make(gateway, await gateway.reader_key())
    await gateway.send_many(60, category="auth")
    await eventually(lambda: len(failures) >= 5, "it was tried a few times")
    assert failures[:5] == [0, 1, 2, 3, 4]


async def test_a_reduced_event_counts_as_reduced_and_says_what_left(
    gateway: Gateway, receiver: Receiver
) -> None:
    def answer(batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        return REFUSED if any(b'"poison"' in one.body for one in batch) else SUCCESS

    receiver.answer = answer
    await make(gateway, await gateway.reader_key())
    await gateway.send(
        event(id="a", category="auth"), event(id="b", category="auth", data={"poison": 1})
    )
    await eventually(lambda: len(receiver.ids) >= 2, "both arrived")
    [reduced] = [one for one in receiver.taken if one["id"] == "b"]
    assert reduced["reduced"] == ["data"]
    assert "data" not in reduced
    seen = await shown_when(gateway, lambda seen: seen["reduced"] >= 1)
    assert seen["dead_letters"] == 0


async def test_another_selection_is_recorded_with_the_cursor_from_which_it_holds(
    gateway: Gateway, receiver: Receiver
) -> None:
    receiver.held.clear()
    await make(gateway, await gateway.reader_key(), batch={"max_wait": "1ms"})
    await gateway.send(event(id="a", category="auth"))
    await eventually(lambda: receiver.most_at_once == 1, "a request is under way")
    select = {"select": {"category": ["billing"]}}
    await gateway.request("PATCH", "/v1/destinations/siem", key=gateway.admin, json=select)
    receiver.held.set()
    await gateway.send(event(id="b", category="auth"), event(id="c", category="billing"))
    await arrives(receiver, ["a", "c"])

    async def recorded() -> list[str]:
        page = await gateway.pull(gateway.admin, category="gateway.delivery")
        return [one["data"]["from"] for one in page["events"] if "from" in one["data"]]

    [cursor] = await machine_time.becomes(recorded, lambda cursors: len(cursors) > 0)
    assert cursor == receiver.taken[0]["cursor"]


async def test_what_a_success_means_is_shown_once_the_receiver_has_told(
    gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        monkeypatch.setattr(ScriptedOutlet, "confirmation", "stored")
        return SUCCESS

    monkeypatch.setattr(ScriptedOutlet, "confirmation", "received")
    receiver.answer = told
    await make(gateway, await gateway.reader_key())
    await gateway.send_many(1, category="auth")
    seen = await shown_when(gateway, lambda seen: seen["delivered"]["events"] == 1)
    assert seen["confirmation"] == "stored"


@pytest.mark.parametrize("how", ["revoke", "suspend"])
async def test_a_key_that_ends_ends_the_delivery_in_the_middle_of_a_request(
    gateway: Gateway, receiver: Receiver, how: str
) -> None:
    receiver.held.clear()
    reader = await gateway.reader_key()
    await make(gateway, reader)
    await gateway.send_many(3, category="auth")
    await eventually(lambda: receiver.most_at_once == 1, "a request is under way")
    await gateway.post(f"/v1/keys/{key_id(reader)}/{how}", key=gateway.admin)
    seen = await becomes(gateway, "disabled")
    assert seen["reason_code"] == {"revoke": "key_revoked", "suspend": "key_suspended"}[how]
    receiver.held.set()
    assert receiver.taken == []
    if how == "suspend":
        await gateway.post(f"/v1/keys/{key_id(reader)}/resume", key=gateway.admin)
        await gateway.post("/v1/destinations/siem/resume", key=gateway.admin)
        await eventually(lambda: len(receiver.ids) == 3, "it goes on")


async def test_what_was_read_under_wider_rights_is_not_sent_when_they_narrow(
    gateway: Gateway, receiver: Receiver
) -> None:
    grant = {"actions": ["stream"], "categories": ["auth", "billing"]}
    role = {"description": "d", "grants": [grant]}
    await gateway.request("PUT", "/v1/roles/reader", key=gateway.admin, json=role)
    reader = await gateway.mint(roles=["reader"])
    receiver.held.clear()
    await make(gateway, reader)
    await gateway.send(
        event(id="a", category="auth", actor={"name": "M"}), event(id="b", category="billing")
    )
    await eventually(lambda: receiver.most_at_once == 1, "a request is under way")
    narrow = {**grant, "categories": ["auth"], "fields": {"mask": ["actor.name"]}}
    role = {"description": "d", "grants": [narrow]}
    await gateway.request("PUT", "/v1/roles/reader", key=gateway.admin, json=role)
    receiver.held.set()
    await arrives(receiver, ["a"])
    assert receiver.taken[0]["actor"]["name"] == "***"


async def test_a_batch_that_was_prepared_under_wider_rights_is_not_sent_when_they_narrow(
    gateway: Gateway, receiver: Receiver
) -> None:
    grant = {"actions": ["stream"], "categories": ["auth"]}
    path, key = "/v1/roles/reader", gateway.admin
    role = {"description": "d", "grants": [grant]}
    await gateway.request("PUT", path, key=key, json=role)
    receiver.held.clear()
    receiver.limits = OutletLimits(2, 1 << 20, 1 << 20, 0.05)
    await make(gateway, await gateway.mint(roles=["reader"]))
    names = list("abcde")
    await gateway.send(*(event(id=one, category="auth", actor={"name": "M"}) for one in names))
    await eventually(lambda: receiver.staged == [2], "the second batch is prepared")
    role = {"description": "d", "grants": [{**grant, "fields": {"mask": ["actor.name"]}}]}
    await gateway.request("PUT", path, key=key, json=role)
    receiver.held.set()
    await arrives(receiver, names)
    assert {one["actor"]["name"] for one in receiver.taken} == {"***"}


async def test_a_destination_follows_its_key_over_rotation(
    gateway: Gateway, receiver: Receiver
) -> None:
    reader = await gateway.reader_key()
    await make(gateway, reader)
    ids = await gateway.send_many(2, category="auth")
    await arrives(receiver, ids)
    overlap = {"overlap": "0s"}
    answer = await gateway.post(
        f"/v1/keys/{key_id(reader)}/rotate", key=gateway.admin, json=overlap
    )
    assert answer.status == 201, answer.body
    ids += await gateway.send_many(2, category="auth")
    await arrives(receiver, ids)


async def test_a_pause_finishes_the_request_and_keeps_the_position(
    gateway: Gateway, receiver: Receiver
) -> None:
    await make(gateway, await gateway.reader_key())
    receiver.held.clear()
    ids = await gateway.send_many(2, category="auth")
    await eventually(lambda: receiver.most_at_once == 1, "a request is under way")
    reason = {"reason": "maintenance"}
    paused = await gateway.post("/v1/destinations/siem/pause", key=gateway.admin, json=reason)
    assert (paused.json()["state"], paused.json()["reason"]) == ("paused", "maintenance")
    receiver.held.set()
    await arrives(receiver, ids)
    await eventually(lambda: receiver.open == 0, "the connection is closed")
    more = await gateway.send_many(2, category="auth")
    again = await gateway.post("/v1/destinations/siem/pause", key=gateway.admin)
    again.problem(409, "already_paused")
    await gateway.post("/v1/destinations/siem/resume", key=gateway.admin)
    await arrives(receiver, ids + more)


async def test_a_change_takes_effect_and_nothing_is_skipped_or_repeated(
    gateway: Gateway, receiver: Receiver
) -> None:
    await make(gateway, await gateway.reader_key(), select={"category": "auth"})
    ids = await gateway.send_many(2, category="auth")
    await arrives(receiver, ids)
    patch = {"select": {"category": "billing"}, "batch": {"max_events": 1}}
    changed = await gateway.request("PATCH", "/v1/destinations/siem", key=gateway.admin, json=patch)
    assert changed.json()["select"] == {"category": "billing"}
    await gateway.send_many(2, category="auth")
    ids += await gateway.send_many(2, category="billing")
    await arrives(receiver, ids)
    assert receiver.batches[-2:] == [1, 1]


def meanwhile(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, act: Callable[[Destination], Destination]
) -> None:
    """Have the next change of a destination find that another one came first."""
    store = gateway.context.destination_store
    change = store.change

    async def comes_second(name: str, changing: DestinationChange) -> Destination | None:
        monkeypatch.setattr(store, "change", change)
        await change(name, lambda one, others: None if one is None else act(one))
        return await change(name, changing)

    monkeypatch.setattr(store, "change", comes_second)


DONE = {"outcome": "done", "ended_at": 2.0}
OF_STATE: dict[str, Callable[[Destination], Destination]] = {
    "disabled by the gateway": lambda one: disabled(one, 2.0, "gone"),
    "replay ended": lambda one: replace(one, replay=one.replay and replace(one.replay, **DONE)),
    "paused by somebody": lambda one: paused(one, 2.0, "key:x", "maintenance"),
}
OF_DEFINITION: dict[str, Callable[[Destination], Destination]] = {
    "another key": lambda one: replace(one, definition=replace(one.definition, key="k" * 12)),
    "another secret": lambda one: with_secret(
        one, "token", SealedSecret(pepper="p", sealed=b"", set_at=2.0, fingerprint="f"), 0.0, 2.0
    ),
    "deleted and made again": lambda one: replace(one, created_at=2.0),
}
CHANGES = {
    "PATCH": ("/v1/destinations/siem", {"on_gap": "fail"}),
    "PUT": ("/v1/destinations/siem/secrets/token", {"value": "new"}),
}


@pytest.mark.parametrize("method", CHANGES)
@pytest.mark.parametrize("before", OF_STATE)
async def test_a_change_keeps_what_became_of_the_state_meanwhile(
    gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, method: str, before: str
) -> None:
    key = await gateway.reader_key()
    await make(gateway, key, secrets={"token": "old"})
    receiver.held.clear()
    await gateway.send(event(id="a"))
    path = "/v1/destinations/siem/replay"
    await gateway.post(path, key=gateway.admin, json={"from": "start"})
    found: list[Destination] = []
    meanwhile(gateway, monkeypatch, lambda one: found.append(OF_STATE[before](one)) or found[0])
    path, body = CHANGES[method]
    answer = await gateway.request(method, path, key=gateway.admin, json=body)
    assert answer.status == 200, answer.body
    stored = await gateway.context.destination_store.get("siem")
    assert stored is not None
    expected = replace(
        found[0], definition=stored.definition, secrets=stored.secrets, revision=stored.revision,
        changed_by=stored.changed_by, changed_at=stored.changed_at,
    )  # fmt: skip
    assert stored == expected
    assert (stored.definition.on_gap == "fail") is (method == "PATCH")
    assert len(stored.secrets["token"]) == 1
    receiver.held.set()


async def test_a_change_is_not_refused_because_a_replaced_secret_was_forgotten_meanwhile(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(gateway, await gateway.reader_key(), secrets={"token": "old"})
    path, body = "/v1/destinations/siem/secrets/token", {"value": "new", "overlap": "1h"}
    await gateway.request("PUT", path, key=gateway.admin, json=body)
    forgotten: list[int] = []

    def forget(one: Destination) -> Destination:
        after = without_ended_secrets(one, 9e9)
        forgotten.append(len(one.secrets["token"]) - len(after.secrets["token"]))
        return after

    meanwhile(gateway, monkeypatch, forget)
    path, body = CHANGES["PATCH"]
    answer = await gateway.request("PATCH", path, key=gateway.admin, json=body)
    assert (answer.status, forgotten) == (200, [1])


@pytest.mark.parametrize("method", CHANGES)
@pytest.mark.parametrize("before", OF_DEFINITION)
async def test_a_change_of_what_somebody_has_defined_anew_is_refused(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, method: str, before: str
) -> None:
    await make(gateway, await gateway.reader_key(), secrets={"token": "old"})
    meanwhile(gateway, monkeypatch, OF_DEFINITION[before])
    path, body = CHANGES[method]
    answer = await gateway.request(method, path, key=gateway.admin, json=body)
    answer.problem(409, "changed_meanwhile")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/destinations/siem/replay"), ("DELETE", "/v1/destinations/siem")],
)
async def test_nothing_is_done_to_a_destination_that_has_another_key_than_was_permitted(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    await make(gateway, await gateway.reader_key())
    meanwhile(gateway, monkeypatch, OF_DEFINITION["another key"])
    answer = await gateway.request(method, path, key=gateway.admin, json={"from": "start"})
    answer.problem(409, "changed_meanwhile")


async def test_one_that_has_to_be_disabled_while_the_store_is_away_fails_until_it_is_back(
    gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(gateway, await gateway.reader_key())
    store = gateway.context.destination_store
    change = store.change

    async def away(name: str, changing: DestinationChange) -> Destination | None:
        raise Unavailable("away", code="store_unavailable")

    monkeypatch.setattr(store, "change", away)
    receiver.answer = lambda batch: DeliveryVerdict(
        DeliveryResult.CONFIG, kind="http", status=410, gone=True
    )
    await gateway.send(event(id="a", category="auth"))
    await shown_when(
        gateway, lambda seen: seen.get("last_error", {}).get("kind") == "store_unavailable"
    )
    monkeypatch.setattr(store, "change", change)
    seen = await becomes(gateway, "disabled")
    assert seen["reason_code"] == "gone"
    assert gateway.context.tasks.errors["destination"] == 0


async def test_the_gateway_disables_nothing_that_was_mended_meanwhile_and_tells_once_what_it_does(
    gateway: Gateway,
) -> None:
    await make(gateway, await gateway.reader_key())
    store, parts = gateway.context.destination_store, gateway.context.deliveries.parts
    before = await store.get("siem")
    assert before is not None
    body = {"on_gap": "fail"}
    await gateway.request("PATCH", "/v1/destinations/siem", key=gateway.admin, json=body)
    await parts.disable(before, "key_revoked")
    mended = await store.get("siem")
    assert mended is not None
    assert mended.state == "active"
    for _ in range(2):
        await parts.disable(mended, "key_revoked")
    assert (await shown(gateway))["reason_code"] == "key_revoked"
    page = await gateway.pull(gateway.admin, category="gateway.delivery")
    told = [one["action"] for one in page["events"]]
    assert told.count("destination.disabled") == 1


async def test_a_deletion_leaves_the_position_of_one_that_was_made_again_meanwhile(
    gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await gateway.reader_key()
    await make(gateway, key)
    store = gateway.context.destination_store
    change = store.change

    async def made_again(name: str, changing: DestinationChange) -> Destination | None:
        monkeypatch.setattr(store, "change", change)
        gone = await change(name, changing)
        await make(gateway, key)
        return gone

    monkeypatch.setattr(store, "change", made_again)
    answer = await gateway.request("DELETE", "/v1/destinations/siem", key=gateway.admin)
    assert answer.status == 204, answer.body
    await gateway.send(event(id="a"))
    await arrives(receiver, ["a"])


async def test_a_deleted_destination_stops_and_leaves_nothing(
    gateway: Gateway, receiver: Receiver
) -> None:
    receiver.held.clear()
    await make(gateway, await gateway.reader_key())
    await gateway.send_many(2, category="auth")
    await eventually(lambda: receiver.most_at_once == 1, "a request is under way")
    answer = await gateway.request("DELETE", "/v1/destinations/siem", key=gateway.admin)
    assert answer.status == 204
    assert receiver.open == 0
    (await gateway.get("/v1/destinations/siem", key=gateway.admin)).problem(
        404, "unknown_destination"
    )
    assert await gateway.context.consumer_store.all(OWNER) == []
    receiver.held.set()
    assert receiver.taken == []


async def test_members_that_are_wrong_are_refused_with_their_path(gateway: Gateway) -> None:
    reader = await gateway.reader_key()
    for members, path in (
        ({"colour": 1}, "colour"),
        ({"select": {"categories": ["auth"]}}, "select.categories"),
        ({"select": {"category": []}}, "select.category"),
        ({"select": {"filter": "severity >"}}, "select.filter"),
        ({"select": {"min_severity": 9}}, "select.min_severity"),
        ({"batch": {"max_wait": "soon"}}, "batch.max_wait"),
        ({"batch": {"max_bytes": "1GiB"}}, "batch.max_bytes"),
        ({"retry": {"min": "2m", "max": "1s"}}, "retry"),
        ({"from": "yesterday"}, "from"),
        ({"settings": {}}, "settings.url"),
        ({"secrets": {"password": "x"}}, "secrets.password"),
        ({"tls": {"cert": "its key is a secret"}}, "secrets.tls_key"),
        ({"type": "smoke_signals"}, "type"),
        ({"name": "Upper Case"}, "name"),
    ):
        answer = await gateway.post(
            "/v1/destinations", key=gateway.admin, json=body(reader, **members)
        )
        assert answer.status == 400, (path, answer.body)
        assert answer.json()["path"] == path
    reference = {"secrets": {"token": {"file": "/etc/shadow"}}}
    refused = await gateway.post(
        "/v1/destinations", key=gateway.admin, json=body(reader, **reference)
    )
    refused.problem(400, "secret_reference_refused")
    assert (await gateway.get("/v1/destinations", key=gateway.admin)).json() == {"destinations": []}


async def test_nobody_delivers_what_they_may_not_grant(gateway: Gateway) -> None:
    broad = await gateway.mint({"actions": ["stream"], "categories": ["**"]})
    narrow = await gateway.mint({"actions": ["stream"], "categories": ["auth"]})
    admin = await gateway.mint(
        {"actions": ["destinations.admin", "ops.read"], "categories": ["**"]},
        {"actions": ["stream"], "categories": ["auth"]},
    )
    refused = await gateway.post("/v1/destinations", key=admin, json=body(broad))
    refused.problem(403, "exceeds_own_grants")
    answer = await gateway.post("/v1/destinations", key=admin, json=body(narrow))
    assert answer.status == 201, answer.body
    patch = {"key": key_id(broad)}
    widened = await gateway.request("PATCH", "/v1/destinations/siem", key=admin, json=patch)
    widened.problem(403, "exceeds_own_grants")


async def test_secrets_reach_the_receiver_and_are_shown_nowhere(
    gateway: Gateway, receiver: Receiver
) -> None:
    made = await make(gateway, await gateway.reader_key(), secrets={"token": "s3cret-value"})
    assert made["secrets"]["token"].keys() == {"set", "set_at", "fingerprint"}
    await gateway.send_many(1, category="auth")
    await eventually(lambda: receiver.secrets == ["s3cret-value"], "the secret is used")
    listed = await gateway.get("/v1/destinations", key=gateway.admin)
    assert b"s3cret" not in listed.body
    data = gateway.context.settings.data
    assert not [
        file for file in data.iterdir() if file.is_file() and b"s3cret" in file.read_bytes()
    ]


async def test_uses_and_streams_of_destinations_are_recorded_as_of_any_reader(
    gateway: Gateway, receiver: Receiver
) -> None:
    reader = await gateway.reader_key()
    await make(gateway, reader)
    ids = await gateway.send_many(5, category="auth")
    await arrives(receiver, ids)
    await gateway.request("DELETE", "/v1/destinations/siem", key=gateway.admin)
    await gateway.context.access_log.flush()
    page = await gateway.pull(gateway.admin, category="gateway.access", actor=key_id(reader))
    closed = [one for one in page["events"] if one["action"] == "stream.closed"]
    assert closed[0]["data"]["events"] == 5
    assert {one["action"] for one in page["events"]} >= {"stream.opened", "stream.closed"}


async def test_a_destination_needs_a_key_that_streams_without_an_address(
    gateway: Gateway, receiver: Receiver
) -> None:
    office = {"actions": ["stream"], "categories": ["auth"], "when": {"cidr": ["127.0.0.0/8"]}}
    await make(gateway, await gateway.mint(office))
    await gateway.send_many(1, category="auth")
    seen = await becomes(gateway, "failing")
    assert seen["last_error"]["kind"] == "address_not_allowed"
    assert receiver.taken == []


async def test_named_events_that_are_refused_leave_the_others_delivered(
    gateway: Gateway, receiver: Receiver
) -> None:
    def answer(batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        bad = [at for at, one in enumerate(batch) if one.outbound.members.id == "bad"]
        refused = tuple(RefusedEvent(at, "mapping", 400) for at in bad)
        return DeliveryVerdict(DeliveryResult.PERMANENT, refused) if bad else SUCCESS

    receiver.answer = answer
    await make(gateway, await gateway.reader_key())
    await gateway.send(*(event(id=one, category="auth") for one in ("a", "bad", "b")))
    await eventually(lambda: len(receiver.ids) == 2, "the others arrived")
    await shown_when(gateway, lambda seen: seen["dead_letters"] >= 1)
    assert receiver.ids == ["a", "b"]


async def test_dead_letters_are_sent_again_with_their_ids_and_leave_when_they_are_taken(
    gateway: Gateway, receiver: Receiver
) -> None:
    def answer(batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        return REFUSED if any(one.outbound.members.id == "bad" for one in batch) else SUCCESS

    receiver.answer = answer
    await make(gateway, await gateway.reader_key())
    await gateway.send(*(event(id=one, category="auth") for one in ("a", "bad", "b")))
    before = await shown_when(gateway, lambda seen: seen["dead_letters"] >= 1)
    path = "/v1/destinations/siem/dead-letters"
    [letter] = (await gateway.get(path, key=gateway.admin)).json()["dead_letters"]
    assert letter["event"] == "bad"
    receiver.answer = lambda batch: SUCCESS
    wanted = {"dead_letters": [letter["id"]], "reason": "mapping mended"}
    answered = await gateway.post("/v1/destinations/siem/replay", key=gateway.admin, json=wanted)
    assert answered.json()["replay"]["dead_letters"] == 1
    seen = await shown_when(gateway, lambda seen: seen["replay"]["state"] == "done")
    assert receiver.ids == ["a", "b", "bad"]
    assert (seen["dead_letters"], seen["replay"]["delivered"]) == (0, 1)
    # The position is that of the delivery.
    assert seen["cursor"] >= before["cursor"]


async def test_a_part_of_the_log_is_delivered_a_second_time_beside_the_delivery(
    gateway: Gateway, receiver: Receiver
) -> None:
    await make(gateway, await gateway.reader_key())
    ids = await gateway.send_many(40, category="auth")
    await arrives(receiver, ids)
    cursors = [one["cursor"] for one in receiver.taken]
    part = {"from": cursors[9], "to": cursors[19]}
    path = "/v1/destinations/siem/replay"
    assert (await gateway.post(path, key=gateway.admin, json=part)).status == 200
    await shown_when(gateway, lambda seen: seen["replay"]["state"] == "done")
    assert receiver.ids == ids + ids[10:20]
    more = await gateway.send_many(2, category="auth")
    await eventually(lambda: len(receiver.ids) == 52, "the delivery goes on")
    assert receiver.ids[50:] == more
    # Also up to an end behind which nothing is for the key.
    whole = {"from": "start", "to": "now"}
    assert (await gateway.post(path, key=gateway.admin, json=whole)).status == 200
    seen = await shown_when(gateway, lambda seen: seen["replay"]["state"] == "done")
    assert seen["replay"]["delivered"] == 42
    for wrong in ({}, {"from": "start", "dead_letters": "all"}):
        assert (await gateway.post(path, key=gateway.admin, json=wrong)).status == 400
    back = {"from": "now", "to": "start"}
    refused = await gateway.post(path, key=gateway.admin, json=back)
    assert refused.problem(400, "invalid_destination")["path"] == "to"


async def test_a_replay_is_cancelled_at_once_and_another_may_begin(
    gateway: Gateway, receiver: Receiver
) -> None:
    await make(gateway, await gateway.reader_key())
    ids = await gateway.send_many(3, category="auth")
    await arrives(receiver, ids)
    path, whole = "/v1/destinations/siem/replay", {"from": "start", "to": "now"}
    receiver.held.clear()
    assert (await gateway.post(path, key=gateway.admin, json=whole)).status == 200
    await eventually(lambda: receiver.open == 2, "it goes on beside the delivery")
    refused = await gateway.post(path, key=gateway.admin, json=whole)
    refused.problem(409, "replay_running")
    cancelled = await gateway.request("DELETE", path, key=gateway.admin)
    assert cancelled.json()["replay"]["state"] == "cancelled"
    # In the middle of its request.
    await eventually(lambda: receiver.open == 1, "it has ended")
    again = await gateway.request("DELETE", path, key=gateway.admin)
    again.problem(409, "no_replay")
    receiver.held.set()
    more = await gateway.send_many(1, category="auth")
    await arrives(receiver, ids + more)
    seen = await shown_when(gateway, lambda seen: seen["state"] == "active")
    assert (seen["replay"]["state"], seen["replay"]["delivered"]) == ("cancelled", 0)
    assert seen["replay"]["ended_at"] >= seen["replay"]["started_at"]
    assert (await gateway.post(path, key=gateway.admin, json=whole)).status == 200
    await shown_when(gateway, lambda seen: seen["replay"]["state"] == "done")
    assert receiver.ids == ids + more + ids + more


async def test_a_test_event_goes_the_whole_way_and_moves_nothing(
    gateway: Gateway, receiver: Receiver
) -> None:
    made = await make(gateway, await gateway.reader_key())
    path = "/v1/destinations/siem/test"
    answer = (await gateway.post(path, key=gateway.admin)).json()
    assert (answer["result"], receiver.tests) == ("success", 1)
    draft = body(await gateway.reader_key(), name="other")
    tried = "/v1/destinations/other/test"
    answer = (await gateway.post(tried, key=gateway.admin, json=draft)).json()
    assert (answer["result"], receiver.tests) == ("success", 2)
    (await gateway.post(path, key=gateway.admin, json=draft)).problem(400, "invalid_destination")
    operator = await gateway.mint({"actions": ["ops.act"], "categories": ["**"]})
    (await gateway.post(tried, key=operator, json=draft)).problem(403, "action_not_granted")
    (await gateway.get("/v1/destinations/other", key=gateway.admin)).problem(
        404, "unknown_destination"
    )
    types = gateway.context.deliveries.parts.outlets.types

    def unusable(order: OutletOrder) -> Outlet:
        raise InvalidRequest("tls.cert: no pair")

    parts = gateway.context.deliveries.parts
    parts.outlets.types = {"scripted": types["scripted"]._replace(make=unusable)}
    answer = (await gateway.post(path, key=gateway.admin)).json()
    assert (answer["result"], answer["message"]) == ("config", "tls.cert: no pair")
    parts.outlets.types = types
    receiver.test_answer = REFUSED
    answer = (await gateway.post(path, key=gateway.admin)).json()
    assert (answer["result"], answer["status"]) == ("permanent", 400)
    assert (await shown(gateway))["cursor"] >= made["cursor"]
    assert receiver.taken == []


async def test_a_fault_of_the_program_is_reported_and_the_delivery_begins_again(
    gateway: Gateway, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    faults = iter([RuntimeError("an outlet is broken")])

    def answer(batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        for fault in faults:
            raise fault
        return SUCCESS

    receiver.answer = answer
    await make(gateway, await gateway.reader_key())
    ids = await gateway.send_many(3, category="auth")
    await arrives(receiver, ids)
    assert gateway.context.tasks.errors["destination"] == 1
    assert "an outlet is broken" in caplog.text
    assert (await shown(gateway))["last_error"]["kind"] == "internal"
    assert gateway.context.tasks.failure is None


async def test_one_that_pauses_after_a_failure_is_changed_and_deleted_at_once(
    gateway: Gateway, receiver: Receiver
) -> None:
    no_stream = await gateway.mint({"actions": ["pull"], "categories": ["auth"]})
    await make(gateway, no_stream, retry={"min": "1h", "max": "1h"})
    seen = await becomes(gateway, "failing")
    assert seen["last_error"]["kind"] == "action_not_granted"
    patch = {"key": key_id(await gateway.reader_key())}
    await gateway.request("PATCH", "/v1/destinations/siem", key=gateway.admin, json=patch)
    ids = await gateway.send_many(2, category="auth")
    await arrives(receiver, ids)
    await gateway.request(
        "PATCH", "/v1/destinations/siem", key=gateway.admin, json={"key": key_id(no_stream)}
    )
    await becomes(gateway, "failing")
    answer = await gateway.request("DELETE", "/v1/destinations/siem", key=gateway.admin)
    assert answer.status == 204


def with_receipts(receiver: Receiver, most: int) -> None:
    """Have it take batches of ten, and say later, and in order, that it has them."""
    numbers = iter(range(1000))
    receiver.limits = OutletLimits(10, 1 << 20, 1 << 20, 0.01, unconfirmed=most)
    receiver.answer = lambda batch: SUCCESS._replace(receipt=next(numbers))


@pytest.mark.parametrize("most", [1, 3])
async def test_the_position_moves_over_what_is_confirmed_and_a_few_batches_are_under_way(
    gateway: Gateway, receiver: Receiver, most: int
) -> None:
    with_receipts(receiver, most)
    receiver.certain.clear()
    made = await make(gateway, await gateway.reader_key())
    ids = await gateway.send_many(100, category="auth")
    await eventually(lambda: len(receiver.ids) == 10 * most, "a window is under way")
    seen = await shown(gateway)
    assert (seen["cursor"], seen["delivered"]["events"]) == (made["cursor"], 0)
    receiver.certain.set()
    await arrives(receiver, ids)
    seen = await shown_when(gateway, lambda seen: seen["lag"]["events"] == 0)
    assert seen["delivered"]["events"] == 100
    assert receiver.receipts == list(range(10))


@pytest.mark.parametrize("how", ["paused", "changed"])
async def test_nothing_is_sent_as_before_a_change_that_comes_while_it_waits_for_a_confirmation(
    gateway: Gateway, receiver: Receiver, how: str
) -> None:
    with_receipts(receiver, 3)
    receiver.certain.clear()
    await make(gateway, await gateway.reader_key())
    ids = await gateway.send_many(60, category="auth")
    await eventually(lambda: len(receiver.ids) == 30, "a window is under way")
    path, admin = "/v1/destinations/siem", gateway.admin
    if how == "paused":
        answer = await gateway.post(f"{path}/pause", key=admin, json={"reason": "maintenance"})
    else:
        select = {"select": {"category": ["billing"]}}
        answer = await gateway.request("PATCH", path, key=admin, json=select)
    assert answer.status == 200, answer.body
    await gateway.context.deliveries.poll()
    receiver.certain.set()
    if how == "paused":
        await eventually(lambda: receiver.open == 0, "it has stopped")
        assert receiver.ids == ids[:30]
        await gateway.post(f"{path}/resume", key=admin, json={"reason": "done"})
        await arrives(receiver, ids)
    else:
        others = await gateway.send_many(5, category="billing")
        await arrives(receiver, ids[:30] + others)


async def test_what_waits_for_its_confirmation_is_not_held(
    gateway: Gateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [0]

    class Body(bytes):
        """Counts how many of it there are."""

        def __init__(self, _: bytes) -> None:
            held[0] += 1

        def __del__(self) -> None:
            held[0] -= 1

    def encode(outlet: ScriptedOutlet, outbound: OutboundEvent) -> bytes:
        return Body(outbound.json)

    monkeypatch.setattr(ScriptedOutlet, "encode", encode)
    with_receipts(receiver, 64)
    receiver.certain.clear()
    await make(gateway, await gateway.reader_key())
    ids = await gateway.send_many(300, category="auth")
    await eventually(lambda: len(receiver.ids) == 300, "all are under way")
    await eventually(lambda: held[0] <= 20, "no more than two batches are held")
    seen = await shown(gateway)
    assert (seen["delivered"]["events"], seen["in_flight"] >= 300) == (0, True)
    # What is not confirmed is read again.
    receiver.confirmation = TRANSIENT
    receiver.certain.set()
    await eventually(lambda: len(receiver.receipts) >= 1, "the first is not confirmed")
    receiver.confirmation = SUCCESS
    seen = await shown_when(gateway, lambda seen: seen["delivered"]["events"] == 300)
    assert seen["delivered"]["bytes"] > 300 * 100
    assert seen["in_flight"] == 0
    assert receiver.ids[-300:] == ids


async def test_events_are_sent_while_those_before_wait_to_be_confirmed(
    gateway: Gateway, receiver: Receiver
) -> None:
    with_receipts(receiver, 4)
    receiver.certain.clear()
    await make(gateway, await gateway.reader_key())
    ids: list[str] = []
    for _ in range(3):
        ids += await gateway.send_many(1, category="auth")
        await arrives(receiver, ids)
    assert receiver.receipts == []
    receiver.certain.set()
    await shown_when(gateway, lambda seen: seen["lag"]["events"] == 0)
    assert receiver.receipts == [0, 1, 2]


async def test_the_next_batch_and_no_more_is_encoded_while_one_is_under_way(
    gateway: Gateway, receiver: Receiver
) -> None:
    receiver.limits = OutletLimits(10, 1 << 20, 1 << 20, 0.01)
    receiver.held.clear()
    await make(gateway, await gateway.reader_key())
    ids = await gateway.send_many(100, category="auth")
    await eventually(lambda: receiver.encoded == 20, "the next batch is ready")
    [stream] = gateway.context.hub.subscriptions
    await eventually(lambda: len(stream.sink.lines) == 80, "all others wait")
    receiver.held.set()
    await arrives(receiver, ids)
    assert receiver.most_at_once == 1
    assert receiver.encoded == 100


async def test_what_is_not_confirmed_is_sent_again_also_where_nothing_comes_behind_it(
    gateway: Gateway, receiver: Receiver
) -> None:
    with_receipts(receiver, 4)
    receiver.certain.clear()
    await make(gateway, await gateway.reader_key())
    ids = await gateway.send_many(5, category="auth")
    await arrives(receiver, ids)
    receiver.confirmation = TRANSIENT
    receiver.certain.set()
    await eventually(lambda: len(receiver.receipts) >= 1, "it is not confirmed")
    receiver.confirmation = SUCCESS
    await shown_when(gateway, lambda seen: seen["delivered"]["events"] == 5)
    assert receiver.ids[-5:] == ids


async def test_what_is_not_confirmed_and_all_behind_it_is_sent_again(
    gateway: Gateway, receiver: Receiver
) -> None:
    with_receipts(receiver, 4)
    receiver.certain.clear()
    await make(gateway, await gateway.reader_key())
    ids = await gateway.send_many(60, category="auth")
    await eventually(lambda: len(receiver.ids) == 40, "a window is under way")
    receiver.confirmation = TRANSIENT
    receiver.certain.set()
    await eventually(lambda: len(receiver.receipts) >= 1, "the first is not confirmed")
    receiver.confirmation = SUCCESS
    await shown_when(gateway, lambda seen: seen["delivered"]["events"] == 60)
    assert receiver.ids[-60:] == ids
    assert receiver.ids[:40] == ids[:40]


async def test_events_that_are_refused_without_a_name_are_one_dead_letter_for_their_range(
    gateway: Gateway, receiver: Receiver
) -> None:
    answers = iter([SUCCESS._replace(unidentified=2, message="2 rejected")])
    receiver.answer = lambda batch: next(answers, SUCCESS)
    await make(gateway, await gateway.reader_key())
    await gateway.send(*(event(id=one, category="auth") for one in ("a", "b", "c")))
    seen = await shown_when(gateway, lambda seen: seen["dead_letters"] >= 1)
    assert (seen["rejected"], seen["delivered"]["events"]) == (2, 1)
    path = "/v1/destinations/siem/dead-letters"
    [letter] = (await gateway.get(path, key=gateway.admin)).json()["dead_letters"]
    assert letter["first"] < letter["id"]
    assert letter["reason"] == "unidentified: 2 of 3"
    wanted = {"dead_letters": "all"}
    refused = await gateway.post("/v1/destinations/siem/replay", key=gateway.admin, json=wanted)
    refused.problem(404, "unknown_dead_letter")


async def test_one_that_refuses_whole_batches_without_a_name_is_disabled_and_nothing_drains_away(
    gateway: Gateway, receiver: Receiver
) -> None:
    receiver.answer = lambda batch: SUCCESS._replace(unidentified=len(batch), kind="partial")
    await make(gateway, await gateway.reader_key(), batch={"max_events": 40})
    await gateway.send_many(200, category="auth")
    seen = await becomes(gateway, "disabled")
    assert (seen["reason_code"], seen["dead_letters"]) == ("too_many_rejected", 1)
    assert (seen["rejected"], seen["last_error"]["kind"]) == (40, "partial")
    receiver.answer = lambda batch: SUCCESS
    receiver.taken.clear()
    await gateway.post("/v1/destinations/siem/resume", key=gateway.admin)
    await eventually(lambda: len(receiver.ids) == 160, "the rest arrives")


async def test_a_receiver_that_hangs_holds_up_two_batches_and_some_pages_and_no_more(
    gateway: Gateway, receiver: Receiver
) -> None:
    receiver.held.clear()
    await make(gateway, await gateway.reader_key())
    for _ in range(6):
        await gateway.send_many(1000, category="auth")
    await eventually(lambda: receiver.most_at_once == 1, "a request is under way")
    await eventually(lambda: receiver.staged == [500], "the next batch is prepared")
    [stream] = gateway.context.hub.subscriptions
    await eventually(lambda: not stream.sink.clear, "the next page has been read")
    assert stream.sink.unsent < 1 << 20
    assert stream.cursor < gateway.context.log.head - 2000
    assert receiver.staged == [500]
    receiver.held.set()
    await eventually(lambda: len(receiver.ids) == 6000, "all arrived")
