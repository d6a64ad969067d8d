"""The simulation with all that may happen to a stream between two events.

The gate shuts and opens, pages are matched in slices between which streams come, go and get other
views, filters are too costly to be live, events cannot be encoded, clients close their side, lives
end, and deliveries are paced. What must hold is the same: exactly once, in order, nothing that may
not be seen, and nothing at all while the gate is shut.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
import pytest
from test_live_simulation import EVENTS, EVERYTHING, Client, Peer, World, draft
from virtual_time import VirtualTimeLoop

from gateway.access.policy.decision import View
from gateway.budgets import FilterBudget
from gateway.event import Draft, Event
from gateway.filters.expression import compile_filter
from gateway.filters.scope import Scope
from gateway.notifier import Notifier
from gateway.scheduling.loop_work import LoopWork
from gateway.streaming.live import flusher, matching
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.subscription import State, Subscription
from gateway.streaming.replay import Replays
from gateway.streaming.tail import Tail
from gateway.wire.framing import GOING_AWAY
from gateway.wire.http_body import NDJSON_PLAIN, Ndjson

KEYS = ("key", "other")
SEEDS = int(os.environ.get("SIMULATION_SEEDS", "25"))
# Shows the same as everything, by other scopes.
ALIKE = View.of(Scope(category=("**",), reserved=False), Scope(category=("auth",), reserved=False))
NARROW = View.of(Scope(category=("auth", "k8s.**", "iam.**"), reserved=False))
COSTLY = compile_filter("data.l.exists(x, x == 3)")
FILTERS = (None, None, COSTLY, compile_filter('severity > 2 || tenant == "acme"'))


class ShakyGate:
    """Shuts for all, or for one key, now and then."""

    def __init__(self) -> None:
        self.renewed = Notifier()
        self.keys_known = True
        self.due: set[str] = set()
        # The promises that were broken.
        self.broken: list[str] = []

    @property
    def open(self) -> bool:
        return self.keys_known and not self.due

    def admits(self, key_id: str) -> bool:
        return self.keys_known and key_id not in self.due


class ShakyPacer:
    """Lets a few events through at a time."""

    given_up = False

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def wait(self) -> float:
        return self._rng.choice((0.0, 0.0, 0.1, 1.0))

    def most(self, left: int | None, streams: int) -> int:
        return min(left or 9, 9)

    def sent(self, events: int, size: int) -> None: ...


class FailingWire(Ndjson):
    """Cannot write some events, most of the times."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(chunked=False)
        self.name = "failing"
        self._rng = rng

    def events(self, events: Sequence[Event]) -> bytes:
        if any(event.offset % 67 == 0 for event in events) and self._rng.random() < 0.8:
            raise RecursionError("too deep")
        return super().events(events)


class GuardedPeer(Peer):
    """Gets no events while the gate is shut, and none that its key no longer sees."""

    def __init__(self, rng: random.Random, gate: ShakyGate, key_id: str) -> None:
        super().__init__(rng)
        self.hidden = b""
        self._gate = gate
        self._key_id = key_id

    def write(self, data: bytes | memoryview) -> bool:
        if b'"category"' in bytes(data):
            # Whoever writes takes an exception for a broken connection.
            if not self._gate.admits(self._key_id):
                self._gate.broken.append("written while the gate is shut")
            if self.hidden and self.hidden in bytes(data):
                self._gate.broken.append("written although it may not be seen")
        return super().write(bytes(data))


class DisturbedClient(Client):
    world: DisturbedWorld

    def __init__(self, world: DisturbedWorld, wanted: Scope, rng: random.Random) -> None:
        super().__init__(world, wanted, rng)
        self.key_id = rng.choice(KEYS)
        self.filter = rng.choice(FILTERS)
        self.wire = rng.choice((NDJSON_PLAIN, NDJSON_PLAIN, world.failing))
        # From which offset on a part is hidden, if it ever is.
        self.narrowed_at: int | None = None
        self.view = EVERYTHING
        self.ends: list[str] = []

    async def connection(self) -> None:
        world, rng = self.world, self.rng
        peer = GuardedPeer(rng, world.gate, self.key_id)
        if self.narrowed_at is not None:
            peer.hidden = b'"billing"'
        query = StreamQuery(self.wanted, self.view, self.filter)
        subscription = Subscription(
            Interest(query, self.wire),
            peer,
            self.key_id,
            self.position,
            limit=rng.choice((None, None, None, 7)),
            until=rng.choice((None, None, None, world.log.head)),
            pacer=rng.choice((None, None, None, ShakyPacer(rng))),  # type: ignore[arg-type]
        )
        peer.on_lost = lambda: world.hub.forget(subscription)
        world.hub.open(subscription)
        closed_at: int | None = None
        for _ in range(rng.randint(1, 60)):
            if peer.lost:
                break
            await asyncio.sleep(rng.choice((0, 0, 0.001, 0.01, 0.2, 6)))
            peer.take()
            what = rng.random()
            if subscription.state is State.ENDED:
                continue
            if what < 0.1:
                self.see_otherwise(subscription, peer)
            elif what < 0.15 and closed_at is None:
                closed_at = world.log.head
                world.hub.complete_at_head(subscription)
        while closed_at is not None and not peer.lost and rng.random() < 0.99:
            await asyncio.sleep(1)
            peer.take()
        if not peer.lost and rng.random() < 0.5:
            peer.cut()
        elif not peer.lost:
            world.hub.end(subscription, GOING_AWAY)
        assert subscription.state is State.ENDED
        for line in peer.lines:
            if line.get("type") == "notice":
                self.ends.append(line["code"])
                continue
            self.take(line)
            if line.get("type") == "end":
                self.ends.append(line["reason"])
                if line["reason"] == "client_closed" and subscription.limit is None:
                    assert closed_at is not None
                    assert self.position >= closed_at, "it was there before"

    def see_otherwise(self, subscription: Subscription, peer: GuardedPeer) -> None:
        """The view changes: mostly to one that shows the same."""
        hub = self.world.hub
        if self.narrowed_at is None and self.rng.random() < 0.2:
            self.narrowed_at, self.view = hub.offset_of(subscription), NARROW
            peer.hidden = b'"billing"'
        elif self.narrowed_at is None:
            self.view = self.rng.choice((EVERYTHING, ALIKE))
        hub.change_view(subscription, self.view)

    def expected(self, event: Event) -> bool:
        if event.offset <= self.began or not self.wanted.compile()(event):
            return False
        if self.filter is not None and not self.filter.matches(event.members()):
            return False
        hidden = event.category == "billing" and self.narrowed_at is not None
        # What was written may have been lost, and is hidden when it would come again.
        return not hidden


class DisturbedWorld(World):
    def __init__(self, seed: int, loop: VirtualTimeLoop) -> None:
        super().__init__(seed, loop, trims=False)
        rng = self.rng
        self.gate = ShakyGate()
        self.failing = FailingWire(rng)
        spent = 0.0

        def timer() -> float:
            nonlocal spent
            spent += rng.choice((0, 0, 0.001, 0.005))
            return spent

        budget = FilterBudget(
            free_steps=rng.choice((1, 200)),
            live_steps=rng.choice((10, 200)),
            least_away_seconds=rng.choice((0.1, 5.0)),
            most_away_seconds=20.0,
        )
        work = LoopWork(self.clock, rng.choice((0.0, 0.00001)), timer=timer, filters=budget)
        self.hub.work = work
        self.hub._lifetimes._seconds = rng.choice((0.0, 0.0, 8.0))
        self.replays = Replays(self.hub, self.log, self.replays.appends, self.clock, self.gate)
        self.tail = Tail(self.log, self.hub, self.tail._appends, self.clock, self.gate)

    async def ticks(self) -> None:
        gate, rng = self.gate, self.rng
        while True:
            self.hub.tick()
            await asyncio.sleep(rng.choice((0, 0.01, 1)))
            gate.keys_known = rng.random() < 0.8
            gate.due = {key for key in KEYS if rng.random() < 0.2}
            gate.renewed.notify()
            # Never shut for ever.
            await asyncio.sleep(rng.choice((0, 0.01, 1)))
            gate.keys_known, gate.due = True, set()
            gate.renewed.notify()
            await asyncio.sleep(rng.choice((0, 0.01, 0.5)))

    def client(self, wanted: Scope, rng: random.Random) -> Client:
        return DisturbedClient(self, wanted, rng)

    def draft(self, number: int) -> Draft:
        made = draft(number, self.rng)
        items = orjson.dumps([self.rng.randint(1, 4) for _ in range(self.rng.choice((1, 9)))])
        said = (number, made.category.encode(), items)
        tail = b'"id":"e%d","category":"%b","data":{"l":%b}}' % said
        return msgspec.structs.replace(made, tail=tail)


def simulate(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[DisturbedWorld, list[DisturbedClient]]:
    rng = random.Random(seed)
    monkeypatch.setattr(flusher, "_BATCH_EVENTS", rng.choice((1, 3, 100)))
    monkeypatch.setattr(flusher, "_FLUSH_BYTES", rng.choice((100, 500, 65536)))
    monkeypatch.setattr(flusher, "_MOST_PENDING", rng.choice((2, 10, 128)))
    monkeypatch.setattr(matching, "_AT_ONCE", rng.choice((1, 3)))
    monkeypatch.setattr(matching, "_MOST_SLICES", rng.choice((1, 5, 20)))
    loop = VirtualTimeLoop(random.Random(seed))
    asyncio.set_event_loop(loop)
    try:
        world = DisturbedWorld(seed, loop)
        clients: Any = loop.run_until_complete(asyncio.wait_for(world.run(), 1_000_000))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        asyncio.set_event_loop(None)
    return world, clients


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_every_event_arrives_exactly_once_and_in_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, clients = simulate(seed, monkeypatch)
    assert world.log.head >= EVENTS
    assert world.gate.broken == [], f"seed {seed}"
    by_offset = {event.offset: event for event in world.written}
    for client in clients:
        expected = [event.offset for event in world.written if client.expected(event)]
        seen = client.offsets
        assert seen == sorted(set(seen)), f"seed {seed}"
        hidden = [at for at in seen if not client.expected(by_offset[at])]
        assert all(at <= (client.narrowed_at or 0) for at in hidden), f"seed {seed}"
        assert [at for at in seen if at not in hidden] == expected, f"seed {seed}"
    hub = world.hub
    leftovers = (hub.subscriptions, hub.key_ids(), hub._groups, hub._groups._projections)
    assert not any(map(len, leftovers))
    assert not hub._groups.index._places


def test_the_simulation_comes_to_all_of_these_states(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"client_closed", "complete", "lifetime_reached", "filter_costly", "event_failed"}
    for seed in range(1000, 1100):
        _, clients = simulate(seed, monkeypatch)
        wanted.difference_update(*(client.ends for client in clients))
        if not wanted:
            return
    pytest.fail(f"never: {wanted}")
