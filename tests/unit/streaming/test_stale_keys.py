"""Nothing is delivered on what was known of a key more than a second ago."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.access.credentials.pepper import Pepper, Peppers
from gateway.access.grants.grant import parse_grant
from gateway.access.grants.role import Role
from gateway.access.keyring import Keyring
from gateway.access.keys import lifecycle
from gateway.access.policy.decision import Allowed
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.errors import Unavailable
from gateway.event import Draft
from gateway.notifier import Notifier
from gateway.runtime.background import Background
from gateway.streaming.enforcement import Enforcement
from gateway.streaming.key_freshness import PATIENCE_SECONDS
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.stream_timings import StreamTimings
from gateway.streaming.live.subscription import State, Subscription
from gateway.streaming.replay import Replays
from gateway.streaming.tail import Tail
from gateway.wire.http_body import NDJSON_PLAIN
from tests.support.machine_time import patience
from tests.support.memory_log import MemoryLog
from tests.support.watched import NOW, key

ALL = parse_grant({"actions": ["stream"], "categories": ["**"]})


class Peer:
    """A sink that takes everything."""

    descriptor = -1
    clear = True
    waited = unsent = 0

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> bool:
        self.data += data
        return True

    async def drained(self) -> None: ...

    def finish(self, last: bytes, within: float) -> None:
        self.data += last

    def abort(self) -> None: ...

    def got(self, event_id: str) -> bool:
        return f'"{event_id}"'.encode() in self.data


class World:
    """The live path of a gateway over a log in memory, with keys in SQLite."""

    def __init__(self, path: Path, clock: Any, draft: Callable[..., Draft]) -> None:
        self.clock = clock
        self.draft = draft
        self.store = SqliteKeys(path)
        self.log = MemoryLog(clock)
        self.background = Background(clock)
        appends, timings = Notifier(), StreamTimings()
        self.log.on_append(appends.notify)
        self.hub = Hub(self.log, clock, lambda stream: self.replays.start(stream), timings)
        self.keyring = Keyring(self.store, lambda: Peppers((Pepper(b"p" * 32),)), clock)
        self.enforcement = Enforcement(self.keyring, self.hub, self.log, clock)
        self.replays = Replays(
            self.hub, self.log, appends, clock, self.enforcement.freshness, self.background
        )
        self.tail = Tail(self.log, self.hub, appends, clock, self.enforcement.freshness)

    def start(self) -> None:
        # First of all: it has to wait for the others.
        self.background.keep("tail", self.tail.run)
        self.background.keep("key_watch", self.enforcement.watch_keys)
        self.background.keep("role_watch", self.enforcement.watch_roles)
        self.background.keep("key_lives", self.enforcement.watch_lives)

    async def open(self, key_id: str, *, live: bool = True, **members: Any) -> Peer:
        await self.store.create(key(key_id, **{"grants": (ALL,), **members}))
        await self.keyring.refresh()
        found = await self.keyring.get(key_id)
        assert found is not None
        decision = self.keyring.decide(found, "stream", None)
        assert isinstance(decision, Allowed)
        peer = Peer()
        interest = Interest(StreamQuery(ALL.scope(), decision.view), NDJSON_PLAIN)
        # One with a limit follows the log from the store for good.
        subscription = Subscription(
            interest, peer, key_id, self.log.head, limit=None if live else 1000
        )
        self.hub.open(subscription)
        return peer

    async def append(self, event_id: str) -> None:
        await self.log.append([[self.draft(id=event_id)]])

    async def seconds(self, seconds: float) -> None:
        """Let time pass while the gateway runs, a second each: it ticks."""
        whole, rest = divmod(seconds, 1)
        for step in [1.0] * int(whole) + [rest]:
            await self.clock.advance(step)
            self.enforcement.tick()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(patience()):
            while not condition():
                await self.seconds(0.25)

    def states(self) -> set[State]:
        return {one.state for one in self.hub.subscriptions}


@pytest.fixture
async def world(tmp_path: Path, clock: Any, draft: Callable[..., Draft]) -> AsyncIterator[World]:
    world = World(tmp_path / "keys.db", clock, draft)
    yield world
    await world.background.close()
    for subscription in list(world.hub.subscriptions):
        world.hub.forget(subscription)
    await world.store.close()


async def cannot_be_read(*_: Any) -> Any:
    raise Unavailable("it cannot be read", code="store_slow")


@pytest.mark.parametrize("live", [True, False])
async def test_a_gateway_that_was_frozen_looks_at_the_keys_before_it_delivers(
    world: World, live: bool
) -> None:
    world.start()
    revoked = await world.open("a", live=live)
    other = await world.open("b", live=live)
    await world.append("before")
    await world.until(lambda: revoked.got("before") and other.got("before"))
    # Frozen: time passes, and nothing runs but what others do.
    await world.store.change("a", lambda key: lifecycle.revoke(key, NOW, ""))
    await world.append("after")
    world.clock.tick(4.0)
    await world.until(lambda: other.got("after"))
    assert not revoked.got("after")
    assert b'"key_revoked"' in revoked.data


async def test_what_was_matched_before_a_freeze_is_not_written_after_it(world: World) -> None:
    """As if it was frozen between matching and writing."""
    peer = await world.open("a")
    await world.enforcement.poll()
    await world.append("pending")
    page = await world.log.read(0, 1, limit=10)
    world.hub.publish(page.events, page.reached)
    await world.append("after")
    await world.store.change("a", lambda key: lifecycle.revoke(key, NOW, ""))
    world.clock.tick(4.0)
    world.start()
    await world.until(lambda: b'"key_revoked"' in peer.data)
    assert not peer.got("pending")
    assert not peer.got("after")


@pytest.mark.parametrize("live", [True, False])
async def test_streams_wait_while_the_keys_cannot_be_read_and_lose_nothing(
    world: World, live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start()
    peer = await world.open("a", live=live)
    await world.append("before")
    await world.until(lambda: peer.got("before"))
    with monkeypatch.context() as outage:
        outage.setattr(world.store, "changed_since", cannot_be_read)
        await world.seconds(2)
        await world.append("meanwhile")
        await world.seconds(PATIENCE_SECONDS - 5)
        assert not peer.got("meanwhile")
        assert world.hub.overdue() == 0
    await world.until(lambda: peer.got("meanwhile"))
    assert State.ENDED not in world.states()


async def test_streams_that_wait_too_long_end_with_their_cursor(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start()
    peer = await world.open("a")
    await world.append("before")
    await world.until(lambda: peer.got("before"))
    monkeypatch.setattr(world.store, "changed_since", cannot_be_read)
    await world.seconds(2)
    await world.append("meanwhile")
    await world.seconds(PATIENCE_SECONDS - 4)
    assert len(world.hub.subscriptions) == 1
    await world.seconds(4)
    assert len(world.hub.subscriptions) == 0
    assert b'"code":1013' in peer.data
    assert not peer.got("meanwhile")
    assert f'"cursor":"{world.log.epoch}-{1:020d}"'.encode() in peer.data


async def test_a_freeze_is_not_taken_for_a_wait(world: World) -> None:
    world.start()
    peer = await world.open("a")
    await world.seconds(1)
    world.clock.tick(10 * PATIENCE_SECONDS)
    world.enforcement.tick()
    await world.append("after")
    await world.until(lambda: peer.got("after"))


async def test_roles_that_cannot_be_read_hold_up_only_streams_whose_keys_have_roles(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start()
    await world.store.put_role(Role(name="team", grants=(ALL,)))
    with_role = await world.open("a", grants=(), roles=("team",))
    # In the same group and shard.
    without, revoked = await world.open("b"), await world.open("c")
    await world.append("before")
    await world.until(lambda: with_role.got("before") and without.got("before"))
    with monkeypatch.context() as outage:
        outage.setattr(world.store, "roles_since", cannot_be_read)
        await world.seconds(2)
        await world.store.change("c", lambda key: lifecycle.revoke(key, NOW, ""))
        await world.seconds(0.5)
        assert b'"key_revoked"' in revoked.data, "the keys' part counts by itself"
        await world.append("meanwhile")
        await world.until(lambda: without.got("meanwhile"))
        assert not with_role.got("meanwhile")
    await world.until(lambda: with_role.got("meanwhile"))
    assert world.hub.totals.demotions == 0


async def test_roles_that_hang_hold_up_no_revocation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_: int) -> Any:
        await asyncio.Event().wait()

    world.start()
    peer = await world.open("a")
    monkeypatch.setattr(world.store, "roles_since", hang)
    await world.seconds(2)
    await world.store.change("a", lambda key: lifecycle.revoke(key, NOW, ""))
    await world.seconds(0.5)
    assert b'"key_revoked"' in peer.data


async def test_a_role_that_narrows_is_heeded_while_the_keys_cannot_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start()
    await world.store.put_role(Role(name="team", grants=(ALL,)))
    peer = await world.open("a", grants=(), roles=("team",))
    await world.seconds(1)
    monkeypatch.setattr(world.store, "changed_since", cannot_be_read)
    await world.store.delete_role("team")
    await world.seconds(1)
    assert b'"grants_changed"' in peer.data


async def test_lives_end_while_no_store_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_: int) -> Any:
        await asyncio.Event().wait()

    world.start()
    peer = await world.open("a", expires_at=NOW + 10)
    await world.seconds(1)
    for part in ("changed_since", "roles_since"):
        monkeypatch.setattr(world.store, part, hang)
    await world.seconds(9.1)
    assert b'"key_expired"' in peer.data


@pytest.mark.parametrize(
    ("task", "owner", "name"),
    [
        ("key_watch", "store", "changed_since"),
        ("role_watch", "store", "roles_since"),
        ("key_lives", "enforcement", "_may_have_changed"),
    ],
)
@pytest.mark.parametrize("live", [True, False])
async def test_a_failing_task_that_guards_access_holds_streams_back_and_then_ends_them(
    world: World, task: str, owner: str, name: str, live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails_slowly(*_: Any) -> Any:
        raise RuntimeError("made to fail")

    def fails(*_: Any) -> Any:
        raise RuntimeError("made to fail")

    world.start()
    await world.store.put_role(Role(name="team", grants=(ALL,)))
    peer = await world.open("a", live=live, grants=(), roles=("team",))
    await world.append("before")
    await world.until(lambda: peer.got("before"))
    monkeypatch.setattr(
        getattr(world, owner), name, fails if owner == "enforcement" else fails_slowly
    )
    await world.seconds(2)
    assert world.background.errors[task] >= 1
    await world.append("unchecked")
    await world.seconds(PATIENCE_SECONDS - 5)
    assert not peer.got("unchecked")
    assert len(world.hub.subscriptions) == 1
    await world.seconds(6)
    assert not peer.got("unchecked")
    assert b'"code":1013' in peer.data
    assert f'"cursor":"{world.log.epoch}-{1:020d}"'.encode() in peer.data


async def test_a_look_at_the_hours_that_failed_is_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it is not made again in the first seconds of the hour."""
    hours = parse_grant(
        {"actions": ["stream"], "categories": ["**"], "when": {"hours": "22-23", "tz": "UTC"}}
    )
    world.start()
    peer = await world.open("a", grants=(hours,))
    await world.seconds(1)
    whole = world.enforcement._may_have_changed

    def fails_once(*given: Any) -> Any:
        monkeypatch.setattr(world.enforcement, "_may_have_changed", whole)
        raise RuntimeError("made to fail")

    monkeypatch.setattr(world.enforcement, "_may_have_changed", fails_once)
    # It is 22:13:20; frozen until a while after 23:00.
    world.clock.tick(3000)
    await world.seconds(5)
    assert b'"grants_changed"' in peer.data


async def test_requests_are_refused_while_their_keys_cannot_be_known(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start()
    await world.store.put_role(Role(name="team", grants=(ALL,)))
    await world.open("a", grants=(), roles=("team",))
    await world.open("b")
    await world.seconds(1)
    monkeypatch.setattr(world.store, "roles_since", cannot_be_read)
    await world.seconds(2)
    with pytest.raises(Unavailable) as refused:
        await world.enforcement.freshness.await_knowledge("a")
    assert refused.value.code == "store_slow"
    await world.enforcement.freshness.await_knowledge("b")
    monkeypatch.setattr(world.store, "changed_since", cannot_be_read)
    await world.seconds(2)
    with pytest.raises(Unavailable):
        await world.enforcement.freshness.await_knowledge("b")


async def test_a_request_after_a_freeze_waits_for_the_look(world: World) -> None:
    world.start()
    await world.open("a")
    await world.seconds(1)
    await world.store.change("a", lambda key: lifecycle.revoke(key, NOW, ""))
    world.clock.tick(4.0)
    await world.enforcement.freshness.await_knowledge("a")
    known = world.keyring.cached("a")
    assert known is not None
    assert known.revoked_at == NOW
