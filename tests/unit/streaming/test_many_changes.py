"""Keys that change by the thousand, or while a page is matched: what ended ends first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway.access.credentials.pepper import Pepper, Peppers
from gateway.access.grants.grant import parse_grant
from gateway.access.keyring import Keyring
from gateway.access.keys import lifecycle
from gateway.access.policy.decision import Allowed, View, decide_grants
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.event import Event
from gateway.filters.expression import compile_filter
from gateway.filters.scope import Scope
from gateway.scheduling.loop_work import LoopWork
from gateway.streaming.enforcement import Enforcement
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.stream_timings import StreamTimings
from gateway.streaming.live.subscription import State, Subscription
from gateway.wire.framing import KEY_REVOKED, End
from gateway.wire.http_body import NDJSON_PLAIN
from tests.support.extent import Extent
from tests.support.watched import FakeHub, key

KEYS = [f"{number:012d}" for number in range(60)]
WIDE = parse_grant({"actions": ["stream"], "categories": ["**"]})
NARROW = parse_grant({"actions": ["stream"], "categories": ["auth"]})


class Told(FakeHub):
    """Remembers what was done, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[str, End | None]] = []

    def end(self, stream: Any, end: End) -> None:
        self.done.append((stream.key_id, end))
        self.subscriptions.remove(stream)

    def change_view(self, stream: Any, view: View) -> None:
        self.done.append((stream.key_id, None))
        stream.interest.query.view = view


def ticking() -> Callable[[], float]:
    """A timer by which each look at it takes a millisecond."""
    looks = count()
    return lambda: next(looks) / 1000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteKeys]:
    store = SqliteKeys(tmp_path / "keys.db")
    yield store
    await store.close()


async def test_keys_that_have_ended_are_acted_on_before_thousands_that_changed(
    store: SqliteKeys, clock: Any
) -> None:
    hub = Told()
    keyring = Keyring(store, lambda: Peppers((Pepper(b"p" * 32),)), clock)
    enforcement = Enforcement(keyring, hub, None, clock, ticking())  # type: ignore[arg-type]
    for name in KEYS:
        await store.create(key(name, grants=(WIDE,)))
    await enforcement.poll()
    for name in KEYS:
        found = await keyring.get(name)
        assert found is not None
        decision = keyring.decide(found, "stream", None)
        assert isinstance(decision, Allowed)
        query = SimpleNamespace(view=decision.view)
        hub.subscriptions.append(
            SimpleNamespace(
                key_id=name,
                address=None,
                interest=SimpleNamespace(query=query),
                opened=None,
                lookback=None,
            )
        )
    for name in KEYS[:-1]:
        await store.change(name, lambda found: msgspec.structs.replace(found, grants=(NARROW,)))
    await store.change(KEYS[-1], lambda found: lifecycle.revoke(found, clock.now(), "", "test"))
    rounds = 0

    async def count_rounds() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    await keyring.refresh_roles()
    changes = await enforcement._refresh_keys()
    assert len(changes.keys) == len(KEYS)
    others = asyncio.create_task(count_rounds())
    await enforcement._act()
    others.cancel()
    assert hub.done[0] == (KEYS[-1], KEY_REVOKED)
    assert [name for name, _ in hub.done[1:]] == KEYS[:-1]
    # Two looks at each, of a millisecond: a pause after every few of them.
    assert rounds > 2 * len(KEYS) // 6


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_thousands_of_streams_of_one_key_end_in_parts_and_get_nothing_meanwhile(
    store: SqliteKeys, clock: Any, how: str
) -> None:
    hub = Told()
    keyring = Keyring(store, lambda: Peppers((Pepper(b"p" * 32),)), clock)
    enforcement = Enforcement(keyring, hub, None, clock, ticking())  # type: ignore[arg-type]
    name = KEYS[0]
    await store.create(key(name, grants=(WIDE,), expires_at=clock.now() + 60))
    await enforcement.poll()
    assert await keyring.get(name) is not None
    for _ in range(60):
        query = SimpleNamespace(view=None)
        hub.subscriptions.append(
            SimpleNamespace(
                key_id=name,
                address=None,
                interest=SimpleNamespace(query=query),
                opened=None,
                lookback=None,
            )
        )
    if how == "revoked":
        await store.change(name, lambda found: lifecycle.revoke(found, clock.now(), "", "test"))
        await keyring.refresh_roles()
        await enforcement._refresh_keys()
        ending: Any = asyncio.create_task(enforcement._act())
    else:
        clock.tick(60)
        ending = asyncio.create_task(enforcement._check_lives())
    seen = set()
    while not ending.done():
        if 0 < len(hub.done) < 60:
            assert not enforcement.freshness.open
            assert not enforcement.freshness.admits(name)
            seen.add(len(hub.done))
        await asyncio.sleep(0)
    await ending
    assert len(hub.done) == 60
    assert len(seen) > 60 // 6, "others have their turn after every few of them"
    assert not enforcement.freshness.held


# A stream that is narrowed while a page of events is matched


class Peer:
    """A sink that takes everything."""

    descriptor = -1
    clear = True

    def __init__(self) -> None:
        self.text = b""

    def write(self, data: bytes) -> bool:
        self.text += data
        return True

    async def drained(self) -> None:
        return

    def finish(self, last: bytes, within: float) -> None:
        self.write(last)

    def abort(self) -> None:
        return


def join(hub: Hub, grant: Any, source: str = "") -> Subscription:
    decision = decide_grants((grant,), "stream")
    assert isinstance(decision, Allowed)
    chosen = compile_filter(source) if source else None
    interest = Interest(StreamQuery(Scope(), decision.view, chosen), NDJSON_PLAIN)
    stream = Subscription(interest, Peer(), "k" * 12, hub.position)
    hub.open(stream)
    assert stream.state is State.LIVE
    return stream


def lines(stream: Subscription, text: bytes) -> int:
    assert isinstance(stream.sink, Peer)
    return stream.sink.text.count(text)


def test_who_is_narrowed_while_a_page_is_matched_gets_of_it_what_the_new_view_shows(
    clock: Any, event: Callable[..., Event]
) -> None:
    hub = Hub(
        Extent("e" * 10),
        clock,
        lambda stream: None,
        StreamTimings(),
        LoopWork(clock, timer=ticking()),
    )
    # Enough to do for matching to pause.
    for number in range(500):
        join(hub, WIDE, f"severity > {-number}")
    narrow, narrowed, wide = join(hub, NARROW), join(hub, WIDE), join(hub, WIDE)
    page: Sequence[Event] = [
        event(offset, category=category, json=b'{"severity":1,"category":"%b"}' % category.encode())
        for offset, category in enumerate(("auth", "billing") * 10, 1)
    ]
    parts = hub.publishing(page, 20)
    next(parts)
    hub.change_view(narrowed, narrow.interest.query.view)
    # There is a group with this view, which it can be in at once.
    assert narrowed.state is State.LIVE
    for _ in parts:
        pass
    while hub.flush() is not None:
        clock.tick(0.02)
    for stream in (narrow, narrowed):
        assert lines(stream, b'"category":"auth"') == 10
        assert lines(stream, b"billing") == 0
    assert lines(wide, b"billing") == 10
