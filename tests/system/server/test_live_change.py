"""A change to one key reaches all of its streams within a second, and no stream of any other.

Two hundred streams of twenty keys, over every transport, while events keep coming.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, NamedTuple

import pytest
from gateway_client import event, key_id
from gateways import Gateway, ShiftedClock, Start
from open_streams import TRANSPORTS, Stream, open_stream

from gateway.clock import parse_rfc3339
from tests.support.machine_time import eventually, patience, slowness

pytestmark = pytest.mark.slow
WITHIN = 1.0
STREAMS_PER_KEY = 10
PAUSE = 0.05
EVERYTHING = {"actions": ["stream"], "categories": ["**"]}


class Arrival(NamedTuple):
    """A message, and when it was read (monotonic)."""

    at: float
    kind: str
    content: dict[str, Any]


class Watched:
    """An open stream that is read as it comes."""

    def __init__(self, stream: Stream, transport: str) -> None:
        self.stream = stream
        self.transport = transport
        self.arrivals: list[Arrival] = []
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while (said := await self.stream.say()) is not None:
            self.arrivals.append(Arrival(time.monotonic(), said.kind, said.content))

    @property
    def events(self) -> list[Arrival]:
        return [one for one in self.arrivals if one.kind == "event"]

    @property
    def last(self) -> int:
        return int(self.events[-1].content["data"]["n"]) if self.events else -1

    def end(self) -> Arrival:
        """How it ended, which was the last thing that it heard."""
        assert self.task.done()
        first = next(n for n, one in enumerate(self.arrivals) if one.kind == "end")
        assert {one.kind for one in self.arrivals[first:]} <= {"end", "close"}
        return self.arrivals[first]

    def numbers(self, *categories: str) -> list[int]:
        return [
            one.content["data"]["n"]
            for one in self.events
            if not categories or one.content["category"] in categories
        ]


class Producer:
    """Sends an event every so often; `n` counts them. Even ones are `auth`, odd ones `billing`."""

    def __init__(self, gateway: Gateway) -> None:
        self.sent = -1
        self._gateway = gateway

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        for n in count():
            category = ("auth", "billing")[n % 2]
            await self._gateway.send(
                event(category=category, actor={"name": "Alice"}, data={"n": n})
            )
            self.sent = n
            await asyncio.sleep(PAUSE)

    async def some_more(self, events: int = 8) -> None:
        until = self.sent + events
        await eventually(lambda: self.sent >= until, "events are sent")


class Key(NamedTuple):
    token: str
    streams: list[Watched]


async def put_role(gateway: Gateway, name: str, *grants: dict[str, Any]) -> None:
    answer = await gateway.request(
        "PUT", f"/v1/roles/{name}", key=gateway.admin, json={"grants": list(grants)}
    )
    assert answer.status in (200, 201), answer.body


async def change(gateway: Gateway, key: Key, what: str, **body: Any) -> None:
    path = f"/v1/keys/{key_id(key.token)}/{what}"
    answer = await gateway.post(path, key=gateway.admin, json=body or None)
    assert answer.status in (200, 201), answer.body


async def drains_until(gateway: Gateway, key: Key) -> float:
    """When the key stops working by itself (monotonic)."""
    shown = await gateway.get(f"/v1/keys/{key_id(key.token)}", key=gateway.admin)
    wall = parse_rfc3339(shown.json()["drains_until"]) / 1_000_000
    return time.monotonic() + wall - time.time()


async def open_all(gateway: Gateway, token: str) -> Key:
    streams = []
    for number in range(STREAMS_PER_KEY):
        transport = TRANSPORTS[number % len(TRANSPORTS)]
        streams.append(Watched(await open_stream(gateway, transport, token), transport))
    return Key(token, streams)


def delays_of_ends(key: Key, since: float, code: int) -> list[float]:
    """Seconds from a change to the end of each stream, which lost nothing up to there."""
    delays = []
    for watched in key.streams:
        end = watched.end()
        assert end.content["code"] == code, end.content
        assert_complete(watched.numbers())
        assert end.content["cursor"] >= watched.events[-1].content["cursor"]
        delays.append(end.at - since)
    return delays


def assert_complete(numbers: list[int], step: int = 1) -> None:
    assert numbers, "it heard nothing at all"
    assert numbers == list(range(numbers[0], numbers[-1] + 1, step))


async def ended(key: Key) -> None:
    await asyncio.wait_for(asyncio.gather(*(one.task for one in key.streams)), patience(10))


async def test_each_change_reaches_its_own_streams_within_a_second_and_no_others(
    start: Start, shifted: ShiftedClock
) -> None:
    gateway = await start(clock=shifted, stream={"heartbeat": 60, "ping": 60})
    producer = Producer(gateway)
    roles = [f"team-{number}" for number in range(6)]
    for name in roles:
        await put_role(gateway, name, EVERYTHING)
    plain = [await open_all(gateway, await gateway.mint(EVERYTHING)) for _ in range(10)]
    by_role = [await open_all(gateway, await gateway.mint(roles=[name])) for name in roles]
    expiring = [
        await open_all(gateway, await gateway.mint(EVERYTHING, expires_in="1h")) for _ in range(4)
    ]
    assert await gateway.streams() == 200
    revoked, suspended, rotated, untouched = plain[:2], plain[2:4], plain[4:7], plain[7:]
    delays: dict[str, list[float]] = {}

    async def goes_on(*others: Key) -> None:
        """Everybody else has heard what was sent meanwhile."""
        await producer.some_more()
        sent = producer.sent - 2
        for key in (*untouched, *others):
            for one in key.streams:
                await eventually(lambda one=one: one.last >= sent, f"{one.transport} hears {sent}")

    async with producer.running():
        await goes_on(*plain, *by_role, *expiring)
        for key in revoked:
            begun = time.monotonic()
            await change(gateway, key, "revoke", reason="left")
            await ended(key)
            delays.setdefault("revoke", []).extend(delays_of_ends(key, begun, 4501))
        for key in suspended:
            begun = time.monotonic()
            await change(gateway, key, "suspend")
            await ended(key)
            delays.setdefault("suspend", []).extend(delays_of_ends(key, begun, 4504))
        await goes_on(*rotated, *by_role, *expiring)
        delays |= await narrowed(gateway, producer, by_role, roles)
        await goes_on(*rotated, *by_role[:4], *expiring)
        for key in rotated:
            await change(gateway, key, "rotate", overlap="2s")
        overlaps_end = [await drains_until(gateway, key) for key in rotated]
        await producer.some_more(4)
        assert all(not one.task.done() for key in rotated for one in key.streams), "still draining"
        for key, overlap_ends in zip(rotated, overlaps_end, strict=True):
            await ended(key)
            delays.setdefault("rotate", []).extend(delays_of_ends(key, overlap_ends, 4502))
        await goes_on(*by_role[:4], *expiring)
        begun = time.monotonic()
        shifted.shift = 3601.0
        for key in expiring:
            await ended(key)
            delays.setdefault("expire", []).extend(delays_of_ends(key, begun, 4502))
        await goes_on()
    for key in untouched:
        for one in key.streams:
            assert not one.task.done()
            assert_complete(one.numbers())
            assert one.last == producer.sent
    for name, found in delays.items():
        print(f"{name}: {len(found)} streams, p100 {max(found) * 1000:.0f} ms")
    within = WITHIN * slowness()
    worst = {name: max(found) for name, found in delays.items() if max(found) >= within}
    assert not worst, f"slower than {within:g} s: {worst}"
    assert await gateway.streams() == 10 * (len(untouched) + 4)


async def narrowed(
    gateway: Gateway, producer: Producer, keys: list[Key], roles: list[str]
) -> dict[str, list[float]]:
    """Roles that lose a part, hide a part, or lose everything; the streams go on, or end."""
    less = {"actions": ["stream"], "categories": ["auth"]}
    hiding = {**EVERYTHING, "fields": {"mask": ["actor.name"]}}
    delays: dict[str, list[float]] = {"narrow": [], "mask": [], "take away": []}
    begun = []
    for role, grant in zip(roles, (less, less, hiding, hiding), strict=False):
        begun.append(time.monotonic())
        await put_role(gateway, role, grant)
    await producer.some_more(int(WITHIN / PAUSE) + 8)
    for key, since in zip(keys[:2], begun, strict=False):
        for one in key.streams:
            gone = [arrival.at for arrival in one.events if arrival.content["category"] != "auth"]
            delays["narrow"].append(max(0.0, max(gone) - since))
            # What it still may see it gets without a gap, across the change.
            last = producer.sent - 4
            await eventually(lambda one=one, n=last: one.numbers("auth")[-1] >= n, "it goes on")
            assert_complete(one.numbers("auth"), 2)
    for key, since in zip(keys[2:4], begun[2:], strict=True):
        for one in key.streams:
            clear = [a.at for a in one.events if a.content["actor"]["name"] == "Alice"]
            delays["mask"].append(max(0.0, max(clear) - since))
            assert_complete(one.numbers())
            await eventually(lambda one=one: "masked" in one.events[-1].content, "it is masked")
            assert one.events[-1].content["masked"] == ["actor.name"]
    for key, role in zip(keys[4:], roles[4:], strict=True):
        since = time.monotonic()
        await put_role(gateway, role)
        await ended(key)
        delays["take away"] += delays_of_ends(key, since, 4503)
    return delays
