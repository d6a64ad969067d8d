"""The watch over live streams: no change is lost, whatever happens; and quiet is cheap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway.access.credentials.pepper import Pepper, Peppers
from gateway.access.grants.grant import Grant, parse_grant
from gateway.access.grants.role import Role
from gateway.access.keyring import Keyring
from gateway.access.keys import lifecycle
from gateway.access.keys.key import Key
from gateway.access.policy.decision import Denied, View
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.errors import Unavailable
from gateway.streaming import enforcement as module
from gateway.streaming.enforcement import Enforcement
from gateway.wire.framing import KEY_EXPIRED, KEY_REVOKED, NOT_GRANTED, End
from tests.support.watched import NOW, FakeHub, key

HOUR = 3600


def grant(*categories: str, **members: Any) -> Grant:
    return parse_grant({"actions": ["stream"], "categories": list(categories), **members})


class Hub(FakeHub):
    """Remembers how streams ended, and gives them other views."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: dict[str, End] = {}

    def end(self, stream: Any, end: End) -> None:
        self.ended[stream.key_id] = end
        self.subscriptions.remove(stream)

    def change_view(self, stream: Any, view: View) -> None:
        stream.interest.query.view = view


class Watched:
    """A watch with its keyring, its store and its hub."""

    def __init__(self, store: SqliteKeys, clock: Any) -> None:
        self.store = store
        self.clock = clock
        self.hub = Hub()
        self.keyring = Keyring(store, lambda: Peppers((Pepper(b"p" * 32),)), clock)
        self.enforcement = Enforcement(self.keyring, self.hub, None, clock)  # type: ignore[arg-type]

    async def make(self, key_id: str, *grants: Grant, **members: Any) -> Any:
        """A key with an open stream; the stream."""
        await self.store.create(key(key_id, grants=grants, **members))
        await self.keyring.refresh()
        found = await self.keyring.get(key_id)
        assert found is not None
        decision = self.keyring.decide(found, "stream", "10.0.0.1")
        assert not isinstance(decision, Denied)
        query = SimpleNamespace(view=decision.view)
        stream = SimpleNamespace(
            key_id=key_id,
            address="10.0.0.1",
            interest=SimpleNamespace(query=query),
            opened=None,
            lookback=None,
        )
        self.hub.subscriptions.append(stream)
        return stream

    async def narrow(self, key_id: str, *grants: Grant) -> None:
        await self.store.change(key_id, lambda key: msgspec.structs.replace(key, grants=grants))


def categories(stream: Any) -> set[str]:
    view: View = stream.interest.query.view
    return {name for scope in view.scopes for name in scope.category}


@pytest.fixture
async def one(tmp_path: Path, clock: Any) -> AsyncIterator[Watched]:
    store = SqliteKeys(tmp_path / "keys.db")
    yield Watched(store, clock)
    await store.close()


async def test_a_stream_that_cannot_be_looked_at_holds_up_no_other_and_is_looked_at_again(
    one: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await one.make("a", grant("**")), await one.make("b", grant("**"))
    await one.make("c", grant("**"))
    for key_id in ("a", "b"):
        await one.narrow(key_id, grant("auth"))
    await one.store.change("c", lambda key: lifecycle.revoke(key, NOW, ""))

    async def fail(*_: Any) -> View:
        raise Unavailable("the log cannot be read")

    with monkeypatch.context() as outage:
        outage.setattr(module, "bound_view", fail)
        with pytest.raises(Unavailable):
            await one.enforcement.poll()
    assert one.hub.ended == {"c": KEY_REVOKED}
    assert categories(first) == categories(second) == {"**"}
    await one.enforcement.poll()
    assert categories(first) == categories(second) == {"auth"}


async def test_a_change_is_acted_on_when_whoever_made_it_has_gone(
    one: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one.store.put_role(Role(name="team", grants=(grant("**"),)))
    stream = await one.make("a", roles=("team",))
    await one.store.put_role(Role(name="team", grants=(grant("auth"),)))
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Any, view: View, now: float) -> View:
        begun.set()
        await go_on.wait()
        return view

    monkeypatch.setattr(module, "bound_view", slow)
    caller = asyncio.create_task(one.enforcement.poll())
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    await one.enforcement.poll()
    assert categories(stream) == {"auth"}


async def test_who_looks_while_another_does_returns_after_the_others_change_is_acted_on(
    one: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = await one.make("a", grant("**"))
    await one.narrow("a", grant("auth"))
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Any, view: View, now: float) -> View:
        begun.set()
        await go_on.wait()
        return view

    monkeypatch.setattr(module, "bound_view", slow)
    first = asyncio.create_task(one.enforcement.poll())
    await begun.wait()
    second = asyncio.create_task(one.enforcement.poll())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not second.done()
    go_on.set()
    await second
    assert categories(stream) == {"auth"}
    await first


async def test_a_stream_that_reads_the_past_goes_on_where_its_view_has_not_changed(
    one: Watched,
) -> None:
    stream = await one.make("a", grant("**", when={"max_lookback": "1h"}))
    query = stream.interest.query
    shown = query.view = query.view.bound({3600: 5})
    await one.store.change("a", lambda key: msgspec.structs.replace(key, name="other"))
    await one.enforcement.poll()
    assert query.view is shown


async def test_a_failed_look_at_the_store_loses_no_change(
    one: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = await one.make("a", grant("**"))
    told: list[str] = []
    one.enforcement.on_change(lambda changes: told.extend(key.id for key in changes.keys))
    await one.narrow("a", grant("auth"))

    async def fail(_: int) -> Any:
        raise Unavailable("the roles cannot be read")

    with monkeypatch.context() as outage:
        outage.setattr(one.store, "roles_since", fail)
        with pytest.raises(Unavailable):
            await one.enforcement.poll()
    await one.enforcement.poll()
    assert categories(stream) == {"auth"}
    assert told == ["a"]


async def test_a_key_that_changes_while_it_is_read_is_not_remembered_as_it_was(
    one: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one.store.create(key("a", grants=(grant("**"),)))
    await one.keyring.refresh()
    read, go_on = asyncio.Event(), asyncio.Event()
    original = one.store.get

    async def slow(key_id: str) -> Key | None:
        found = await original(key_id)
        read.set()
        await go_on.wait()
        return found

    with monkeypatch.context() as slowly:
        slowly.setattr(one.store, "get", slow)
        getting = asyncio.create_task(one.keyring.get("a"))
        await read.wait()
        with monkeypatch.context() as at_once:
            at_once.setattr(one.store, "get", original)
            await one.store.change("a", lambda key: lifecycle.revoke(key, NOW, ""))
        await one.keyring.refresh()
        go_on.set()
        found = await getting
    again = await one.keyring.get("a")
    assert found is not None
    assert again is found
    assert found.revoked_at == NOW


# Lives


async def test_a_life_ends_at_its_moment_and_not_at_the_next_look(one: Watched) -> None:
    await one.make("a", grant("**"), expires_at=NOW + 10.1)
    await one.make("b", grant("**"), expires_at=NOW + 3600)
    running = asyncio.create_task(one.enforcement.watch_lives())
    await one.clock.advance(10.09)
    assert one.hub.ended == {}
    await one.clock.advance(0.02)
    assert one.hub.ended == {"a": KEY_EXPIRED}
    running.cancel()


async def test_a_life_ends_while_the_store_cannot_be_read(
    one: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one.make("a", grant("**"), expires_at=NOW + 10)

    async def fail(_: int) -> Any:
        raise Unavailable("the keys cannot be read")

    monkeypatch.setattr(one.store, "changed_since", fail)
    one.clock.tick(10)
    with pytest.raises(Unavailable):
        await one.enforcement.poll()
    assert one.hub.ended == {"a": KEY_EXPIRED}


# Hours


async def test_streams_bound_to_hours_end_with_the_hour_and_cost_nothing_meanwhile(
    one: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is 22:13:20."""
    await one.make("a", grant("**", when={"hours": "06-23"}))
    await one.make("b", grant("**", when={"cidr": ["10.0.0.0/8"]}))
    decisions: list[str] = []
    original = one.keyring.decide

    def counted(key: Key, *rest: Any) -> Any:
        decisions.append(key.id)
        return original(key, *rest)

    monkeypatch.setattr(one.keyring, "decide", counted)
    await one.enforcement.poll()
    decisions.clear()
    for _ in range(90):
        one.clock.tick(1.0)
        await one.enforcement.poll()
    assert decisions == []
    one.clock.tick(23 * HOUR - 22 * HOUR - 13 * 60 - 20 - 90 - 1)
    await one.enforcement.poll()
    assert one.hub.ended == {}
    one.clock.tick(1)
    await one.enforcement.poll()
    assert one.hub.ended == {"a": NOT_GRANTED}
    assert "b" not in decisions


@pytest.mark.parametrize(
    ("zone", "hours"), [("Asia/Kathmandu", "04-05"), ("Asia/Kolkata", "03-05")]
)
async def test_hours_begin_and_end_in_time_zones_off_by_parts_of_an_hour(
    one: Watched, zone: str, hours: str
) -> None:
    """It is 22:13:20 UTC, 03:58:20 in Kathmandu and 03:43:20 in Kolkata."""
    one.clock.tick(100 if zone == "Asia/Kathmandu" else 0)
    await one.make("a", grant("**", when={"hours": hours, "tz": zone}))
    await one.enforcement.poll()
    minutes = 60 if zone == "Asia/Kathmandu" else 77
    for _ in range(minutes * 60 // 5 - 8):
        one.clock.tick(5.0)
        await one.enforcement.poll()
    assert one.hub.ended == {}
    for _ in range(16):
        one.clock.tick(5.0)
        await one.enforcement.poll()
    assert one.hub.ended == {"a": NOT_GRANTED}


async def test_a_stream_that_was_decided_on_before_the_hour_and_opened_after_it_ends(
    one: Watched,
) -> None:
    one.clock.tick(23 * HOUR - 22 * HOUR - 13 * 60 - 20 - 0.1)
    stream = await one.make("a", grant("**", when={"hours": "06-23"}))
    one.hub.subscriptions.remove(stream)
    one.clock.tick(0.2)
    await one.enforcement.poll()
    one.hub.subscriptions.append(stream)
    one.clock.tick(0.25)
    await one.enforcement.poll()
    assert one.hub.ended == {"a": NOT_GRANTED}
