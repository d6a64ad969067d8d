"""Destinations of each type over HTTP whose receivers do not behave: state, counters, and what is
told. What one answer means is in tests/unit/delivery/outlets/test_bad_receivers.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from email.utils import formatdate
from ipaddress import ip_network
from typing import Any, NamedTuple

import pytest
from gateway_client import event, key_id
from gateways import Gateway, Start

from gateway.delivery import backoff
from gateway.delivery.outlets.outlet import DeliveryResult
from tests.support.bad_receivers import BAD, STORES, EventStore
from tests.support.machine_time import becomes, eventually
from tests.support.outlets import HTTP_CASES, SECRET
from tests.support.scripted_receiver import Reply, ScriptedReceiver, scripted_receiver

# Which of how many events is refused.
_PLACES = {"first": (0, 7), "middle": (3, 7), "last": (6, 7), "alone": (0, 1)}

each_type = pytest.mark.parametrize("name", HTTP_CASES)


class Pauses(list[tuple[int, float]]):
    """Failures in a row before each pause, and how long it should have been; none is made."""

    @property
    def seconds(self) -> float:
        return sum(seconds for _, seconds in self)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    made = Pauses()

    def at_once(failures: int, *others: float) -> float:
        made.append((failures, backoff.pause(failures, *others)))
        return 0.001

    monkeypatch.setattr("gateway.delivery.running.worker.pause", at_once)
    return made


@pytest.fixture
async def gateway(start: Start, pauses: Pauses) -> Gateway:
    return await start(destinations={"allow_networks": (ip_network("127.0.0.0/8"),)})


class Destination(NamedTuple):
    """One destination, its receiver, and what that has."""

    gateway: Gateway
    store: EventStore
    receiver: ScriptedReceiver

    async def shown(self) -> Any:
        answer = await self.gateway.get("/v1/destinations/siem", key=self.gateway.admin)
        assert answer.status == 200, answer.body
        assert SECRET not in answer.body.decode()
        return answer.json()

    async def becomes(self, condition: Callable[[Any], object]) -> Any:
        return await becomes(self.shown, condition)

    async def have(self, *ids: str) -> None:
        """Wait until the receiver has these events."""
        await eventually(lambda: set(ids) <= set(self.store.taken), f"{ids} are taken")

    async def refused(self) -> list[str]:
        """Ids of the dead letters."""
        path = "/v1/destinations/siem/dead-letters"
        answer = await self.gateway.get(path, key=self.gateway.admin)
        assert SECRET not in answer.body.decode()
        return [one["event"] for one in answer.json()["dead_letters"]]


@asynccontextmanager
async def delivered(gateway: Gateway, name: str) -> AsyncIterator[Destination]:
    """A destination of a type that works."""
    case, store = HTTP_CASES[name], STORES[name](SECRET)
    async with scripted_receiver(store.answer) as receiver:
        reader = await gateway.reader_key(categories=["auth"])
        body = {
            "name": "siem", "type": name, "key": key_id(reader),
            "settings": {**case.settings, "url": f"http://127.0.0.1:{receiver.port}"},
            "secrets": {kind: values[0] for kind, values in case.secrets.items()},
            "batch": {"max_wait": "20ms"}, "retry": {"min": "500ms", "max": "60s"},
        }  # fmt: skip
        answer = await gateway.post("/v1/destinations", key=gateway.admin, json=body)
        assert answer.status == 201, answer.body
        made = Destination(gateway, store, receiver)
        await made.have(*await gateway.send_many(1, category="auth"))
        yield made


@each_type
async def test_whatever_a_receiver_answers_is_told_and_nothing_is_lost(
    gateway: Gateway, name: str
) -> None:
    case = HTTP_CASES[name]
    async with delivered(gateway, name) as siem:
        for what, bad in BAD.items():
            if bad.result is DeliveryResult.PERMANENT or (bad.lies and case.any_success):
                continue
            before, go_on = (await siem.shown())["retries"], asyncio.Event()
            steps = [bad.step] * (2 if bad.breaks and case.puts else 1)
            siem.receiver.script.extend([*steps, siem.receiver.held(go_on)])
            sent = await gateway.send_many(2, category="auth")
            failing = await siem.becomes(lambda seen: seen["retries"] > before)  # noqa: B023
            assert failing["state"] == "failing", what
            told = failing["last_error"]
            assert told["kind"], what
            assert len(told.get("message", "")) <= 200, what
            assert told.get("status") == getattr(bad.step, "status", told.get("status")), what
            go_on.set()
            await siem.have(*sent)
        working = await siem.becomes(lambda seen: seen["state"] == "active")
        assert (working["rejected"], working["dead_letters"]) == (0, 0)
        assert not siem.receiver.script


@each_type
async def test_one_event_that_is_refused_is_a_dead_letter_wherever_it_stands(
    gateway: Gateway, name: str
) -> None:
    async with delivered(gateway, name) as siem:
        siem.store.refuses = lambda name: name.startswith("bad")
        bad = []
        for place, (at, count) in _PLACES.items():
            bad.append(f"bad-{place}")
            names = [bad[-1] if n == at else f"good-{place}-{n}" for n in range(count)]
            await gateway.send(*(event(id=one, category="auth") for one in names))
            seen = await siem.becomes(lambda seen: seen["dead_letters"] == len(bad))
            await siem.have(*(one for one in names if one.startswith("good")))
            assert sorted(await siem.refused()) == sorted(bad), place
        await siem.have(*await gateway.send_many(2, category="auth"))
        seen = await siem.becomes(lambda seen: seen["state"] == "active")
        assert (seen["rejected"], seen["dead_letters"]) == (4, 4)
        # They can be sent again when the receiver is mended.
        siem.store.refuses = lambda name: False
        body = {"dead_letters": "all", "reason": "it is mended"}
        answer = await gateway.post("/v1/destinations/siem/replay", key=gateway.admin, json=body)
        assert answer.status < 300, answer.body
        await siem.have(*bad)
        await siem.becomes(lambda seen: not seen["dead_letters"])


@each_type
async def test_a_receiver_that_refuses_everything_fails_and_has_everything_when_it_is_mended(
    gateway: Gateway, pauses: Pauses, name: str
) -> None:
    async with delivered(gateway, name) as siem:
        siem.store.refuses = lambda name: True
        sent = await gateway.send_many(7, category="auth")
        await eventually(lambda: len(pauses) >= 3, "it was tried a few times")
        seen = await siem.becomes(lambda seen: seen["state"] == "failing")
        assert (seen["rejected"], seen["dead_letters"], await siem.refused()) == (0, 0, [])
        assert [failures for failures, _ in pauses[:3]] == [0, 1, 2]
        siem.store.refuses = lambda name: False
        await siem.have(*sent)
        seen = await siem.becomes(lambda seen: seen["state"] == "active")
        assert (seen["rejected"], seen["dead_letters"]) == (0, 0)


@each_type
async def test_a_receiver_that_is_busy_for_a_minute_is_asked_rarely_and_loses_nothing(
    gateway: Gateway, pauses: Pauses, name: str
) -> None:
    async with delivered(gateway, name) as siem:
        good = siem.receiver.good
        busy = Reply(503, b"busy")
        siem.receiver.good = lambda got: busy if pauses.seconds < 60 else good(got)
        sent = await gateway.send_many(100, category="auth")
        await siem.have(*sent)
        seen = await siem.becomes(lambda seen: seen["state"] == "active")
        assert (seen["rejected"], seen["dead_letters"]) == (0, 0)
        assert seen["last_error"]["status"] == 503
        assert [failures for failures, _ in pauses] == list(range(len(pauses)))
        # A ceiling that doubles from half a second to a minute.
        assert len(pauses) < 60


@each_type
async def test_a_receiver_is_left_alone_for_as_long_as_it_asks_for(
    gateway: Gateway, pauses: Pauses, name: str
) -> None:
    async with delivered(gateway, name) as siem:
        later = formatdate(time.time() + 700, usegmt=True)
        asked: Sequence[str] = ("300", later)
        siem.receiver.script.extend(Reply(429, headers={"Retry-After": one}) for one in asked)
        await siem.have(*await gateway.send_many(3, category="auth"))
        first, second = (seconds for _, seconds in pauses)
        assert first == 300
        assert 600 < second <= 700
        assert (await siem.shown())["dead_letters"] == 0
