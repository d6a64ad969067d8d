"""A seeded simulation of tail, hub and replay under a shaken schedule.

The log is slow, gives short pages, fails now and then and deletes its oldest
events; peers stall, are cut, and resume from a cursor that they were given.
What must hold: each client gets every event that it asked for and may see
exactly once and in order, over all of its connections; or is told of a gap.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from virtual_time import LoopClock, VirtualTimeLoop

from gateway.access.policy.decision import View
from gateway.cursor import parse_cursor
from gateway.errors import Unavailable
from gateway.event import Draft, Event
from gateway.filters.scope import Scope
from gateway.log.counts import Counts, Grouping
from gateway.log.ports import Appended, Page, RawPage, ScanHint
from gateway.notifier import Notifier
from gateway.streaming.live import flusher
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.stream_timings import StreamTimings
from gateway.streaming.live.subscription import State, Subscription
from gateway.streaming.replay import Replays
from gateway.streaming.tail import Tail
from gateway.wire.framing import GOING_AWAY
from gateway.wire.http_body import NDJSON_PLAIN
from tests.support.memory_log import MemoryLog
from tests.support.open_gate import OpenGate

CATEGORIES = ("auth", "billing", "k8s.audit", "iam.role")
TENANTS = ("acme", "globex")
EVENTS = 400
CLIENTS = 8
EVERYTHING = View.of(Scope(category=("**",), reserved=False))


class ShakyLog:
    """A `Log` that is slow, gives short pages, loses wake-ups, and is sometimes away."""

    def __init__(self, log: MemoryLog, rng: random.Random) -> None:
        self.inner = log
        self.gives = rng.random() < 0.5
        self._rng = rng

    epoch = property(lambda self: self.inner.epoch)
    head = property(lambda self: self.inner.head)
    floor = property(lambda self: self.inner.floor)

    def on_append(self, listener: Callable[[], None]) -> None:
        self.inner.on_append(lambda: listener() if self._rng.random() < 0.8 else None)

    async def append(self, batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        return await self.inner.append(batches)

    async def read(
        self, after: int, until: int, *, limit: int, hint: ScanHint | None = None
    ) -> Page:
        for _ in range(self._rng.choice((0, 0, 1, 3))):
            await asyncio.sleep(self._rng.choice((0, 0.001, 0.05)))
        if self._rng.random() < 0.03:
            raise Unavailable("the store is away")
        page = await self.inner.read(
            after, until, limit=self._rng.randint(1, min(limit, 50)), hint=hint
        )
        await asyncio.sleep(self._rng.choice((0, 0, 0.01)))
        return page

    async def read_back(
        self, after: int, until: int, *, limit: int, hint: ScanHint | None = None
    ) -> Page:
        return await self.inner.read_back(after, until, limit=limit, hint=hint)

    async def count(self, after: int, until: int, *, hint: ScanHint, grouping: Grouping) -> Counts:
        return await self.inner.count(after, until, hint=hint, grouping=grouping)

    async def last_before_each(self, micros: Sequence[int]) -> list[int]:
        return await self.inner.last_before_each(micros)

    def can_read_raw(self, hint: ScanHint) -> bool:
        return self.gives and self.inner.can_read_raw(hint)

    async def read_raw(self, after: int, until: int, *, limit: int, hint: ScanHint) -> RawPage:
        await asyncio.sleep(self._rng.choice((0, 0.001, 0.05)))
        if self._rng.random() < 0.03:
            raise Unavailable("the store is away")
        limit = self._rng.randint(1, min(limit, 50))
        return await self.inner.read_raw(after, until, limit=limit, hint=hint)


class Peer:
    """A sink whose other side takes bytes when it feels like it."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.unsent = self.waited = 0
        self._limit = rng.choice((500, 5_000, 100_000))
        self._drained = Notifier()
        self.lines: list[dict[str, Any]] = []
        self.lost = False
        self.on_lost: Callable[[], None] | None = None
        self._text = b""
        self.descriptor = -1

    @property
    def clear(self) -> bool:
        return not self.unsent

    def write(self, data: bytes) -> bool:
        if self.lost:
            return True
        self.unsent += len(data)
        self.waited += len(data)
        self._text += data
        return self.unsent <= self._limit

    def take(self) -> None:
        """The peer reads a part of what was written."""
        part = self._rng.randint(0, self.unsent)
        self.unsent -= part
        self._drained.notify()

    async def drained(self) -> None:
        while self.unsent > self._limit // 2 and not self.lost:
            await self._drained.until(lambda: self.unsent <= self._limit // 2 or self.lost, 0.5)
            self.take()

    def finish(self, last: bytes, within: float) -> None:
        self.write(last)
        if self._rng.random() < 0.7:
            self.unsent = 0
        self.cut(call=False)

    def abort(self) -> None:
        self.cut()

    def cut(self, *, call: bool = True) -> None:
        """The connection is gone; what was not taken never arrived."""
        if self.lost:
            return
        self.lost = True
        arrived = self._text[: len(self._text) - self.unsent]
        whole = arrived[: arrived.rfind(b"\n") + 1]
        self.lines = [orjson.loads(line) for line in whole.splitlines()]
        self._drained.notify()
        if call and self.on_lost is not None:
            self.on_lost()


class Client:
    """Connects, is cut, and resumes, until it has everything."""

    def __init__(self, world: World, wanted: Scope, rng: random.Random) -> None:
        self.world = world
        self.wanted = wanted
        self.rng = rng
        self.position = 0
        self.began = 0
        self.offsets: list[int] = []
        self.gaps: list[tuple[int, int]] = []

    async def live(self) -> None:
        self.position = self.began = self.rng.choice((0, self.world.log.head))
        while not self.world.finished or self.position < self.world.log.head:
            await self.connection()
            await asyncio.sleep(self.rng.choice((0, 0, 0.02, 0.3)))

    async def connection(self) -> None:
        log, hub = self.world.log, self.world.hub
        begin = self.position
        if begin < log.floor:
            self.gaps.append((begin, log.floor))
            begin = self.position = log.floor
        peer = Peer(self.rng)
        interest = Interest(StreamQuery(self.wanted, EVERYTHING), NDJSON_PLAIN)
        limit = self.rng.choice((None, None, None, 7))
        until = self.rng.choice((None, None, None, log.head))
        subscription = Subscription(
            interest, peer, "key", begin, skip_gaps=True, limit=limit, until=until
        )
        peer.on_lost = lambda: hub.forget(subscription)
        hub.open(subscription)
        for _ in range(self.rng.randint(1, 60)):
            if peer.lost:
                break
            await asyncio.sleep(self.rng.choice((0, 0.001, 0.01, 0.2, 6)))
            peer.take()
        if self.rng.random() < 0.5:
            peer.cut()
        else:
            hub.end(subscription, GOING_AWAY)
        assert subscription.state is State.ENDED
        for line in peer.lines:
            self.take(line)
            assert until is None or "type" in line or self.position <= until

    def take(self, line: dict[str, Any]) -> None:
        _, offset = parse_cursor(line["cursor"])
        kind = line.get("type")
        if kind is None:
            self.offsets.append(offset)
        elif kind == "gap":
            _, after = parse_cursor(line["after"])
            self.gaps.append((after, offset))
        assert offset >= self.position, f"{kind or 'event'} goes back to {offset}"
        self.position = offset


class World:
    def __init__(self, seed: int, loop: VirtualTimeLoop, *, trims: bool) -> None:
        self.rng = random.Random(seed)
        self.clock = LoopClock(loop)
        self.log = ShakyLog(MemoryLog(self.clock), self.rng)
        self.trims = trims
        self.finished = False
        appends = Notifier()
        self.log.on_append(appends.notify)
        timings = StreamTimings(flush=self.rng.choice((0, 0.01, 0.3)))
        self.hub = Hub(self.log, self.clock, lambda stream: self.replays.start(stream), timings)
        self.replays = Replays(self.hub, self.log, appends, self.clock, OpenGate())
        self.tail = Tail(self.log, self.hub, Notifier(), self.clock, OpenGate())
        self.log.on_append(lambda: self.tail.log_grew())
        self.written: list[Event] = []

    async def run(self) -> list[Client]:
        tasks = [asyncio.create_task(self.tail.run()), asyncio.create_task(self.ticks())]
        writing = asyncio.create_task(self.write())
        scopes = [
            Scope(),
            Scope(category=("auth",)),
            Scope(tenant=("acme",), category=("iam.*", "k8s.**")),
            Scope(min_severity=5),
            Scope(category=("billing",), tenant=("globex", "acme")),
        ]
        clients = [
            self.client(self.rng.choice(scopes), random.Random(self.rng.random()))
            for _ in range(CLIENTS)
        ]
        await asyncio.gather(*(client.live() for client in clients))
        await writing
        for task in tasks:
            assert not task.done(), "a background task has failed"
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return clients

    def client(self, wanted: Scope, rng: random.Random) -> Client:
        return Client(self, wanted, rng)

    def draft(self, number: int) -> Draft:
        return draft(number, self.rng)

    async def ticks(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.hub.tick()

    async def write(self) -> None:
        while self.log.head < EVENTS:
            count = self.rng.choice((1, 1, 2, 30))
            before = self.log.head
            await self.log.append([[self.draft(before + n) for n in range(count)]])
            page = await self.log.inner.read(before, self.log.head, limit=1000)
            self.written += page.events
            if self.trims and self.rng.random() < 0.2:
                await self.log.inner.trim(None, 5_000)
            await asyncio.sleep(self.rng.choice((0, 0.001, 0.1, 1)))
        self.finished = True


def draft(number: int, rng: random.Random) -> Draft:
    return Draft(
        id=f"e{number}",
        tenant=rng.choice(TENANTS),
        category=rng.choice(CATEGORIES),
        action="a",
        outcome="success",
        severity=rng.randint(1, 6),
        actor="",
        resources="",
        has_time=False,
        tail=b'"id":"e%d"}' % number,
    )


def simulate(
    seed: int, monkeypatch: pytest.MonkeyPatch, *, trims: bool
) -> tuple[World, list[Client]]:
    loop = VirtualTimeLoop(random.Random(seed))
    asyncio.set_event_loop(loop)
    try:
        world = World(seed, loop, trims=trims)
        rng = random.Random(seed)
        # So that even these few events are written in several parts.
        monkeypatch.setattr(flusher, "_BATCH_EVENTS", rng.choice((1, 3, 100)))
        monkeypatch.setattr(flusher, "_FLUSH_BYTES", rng.choice((100, 500, 65536)))
        monkeypatch.setattr(flusher, "_MOST_PENDING", rng.choice((2, 10, 128)))
        clients = loop.run_until_complete(asyncio.wait_for(world.run(), 100_000))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        asyncio.set_event_loop(None)
    return world, clients


def in_gap(offset: int, client: Client) -> bool:
    return any(after < offset <= begin for after, begin in client.gaps)


@pytest.mark.parametrize("seed", range(60))
def test_every_wanted_event_arrives_exactly_once_and_in_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, clients = simulate(seed, monkeypatch, trims=False)
    for client in clients:
        matches = client.wanted.compile()
        expected = [e.offset for e in world.written if e.offset > client.began and matches(e)]
        assert client.gaps == []
        assert client.offsets == expected, f"seed {seed}, {client.wanted}"


@pytest.mark.parametrize("seed", range(1000, 1030))
def test_what_retention_took_is_told_as_a_gap_and_nothing_else_is_missing(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, clients = simulate(seed, monkeypatch, trims=True)
    for client in clients:
        matches = client.wanted.compile()
        wanted = [e.offset for e in world.written if e.offset > client.began and matches(e)]
        assert client.offsets == sorted(set(client.offsets))
        missing = set(wanted) - set(client.offsets)
        assert set(client.offsets) <= set(wanted)
        assert all(in_gap(offset, client) for offset in missing), f"seed {seed}"
