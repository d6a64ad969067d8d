"""A failure that one event causes ends the streams that it concerns, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.access.grants.grant import parse_grant
from gateway.access.grants.mask import Versions
from gateway.event import Draft, Event
from gateway.filters.index import Index
from gateway.streaming.replay_cache import EventFailed
from gateway.wire import http_body as http
from tests.support.machine_time import patience
from tests.unit.streaming.test_stale_keys import Peer, World

MASKED = parse_grant(
    {"actions": ["stream"], "categories": ["**"], "fields": {"mask": ["actor.id"]}}
)


@pytest.fixture
async def world(tmp_path: Path, clock: Any, draft: Callable[..., Draft]) -> Any:
    world = World(tmp_path / "keys.db", clock, draft)
    world.told = []  # type: ignore[attr-defined]
    world.replays.on_event_failed(lambda *told: world.told.append(told))  # type: ignore[attr-defined]
    yield world
    await world.background.close()
    for subscription in list(world.hub.subscriptions):
        world.hub.forget(subscription)
    await world.store.close()


def masking_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    under = Versions.under

    def failing(versions: Versions, hiding: Any) -> Event:
        if hiding is not None and b'"bad"' in under(versions, None).json:
            raise RecursionError("too deep")
        return under(versions, hiding)

    monkeypatch.setattr(Versions, "under", failing)


@pytest.mark.parametrize("live", [True, False])
async def test_a_mask_that_fails_ends_the_streams_that_wear_it_before_the_event(
    world: Any, live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    masking_fails(monkeypatch)
    world.start()
    masked: Peer = await world.open("a", live=live, grants=(MASKED,))
    plain: Peer = await world.open("b", live=live)
    # One page, of which a part comes before.
    await world.log.append([[world.draft(id=name) for name in ("first", "bad", "last")]])
    await world.until(lambda: b'"event_failed"' in masked.data and plain.got("last"))
    assert plain.got("bad")
    assert masked.got("first")
    assert not masked.got("bad")
    assert not masked.got("last")
    end = masked.data.splitlines()[-1]
    assert f'"cursor":"{world.log.epoch}-{1:020d}"'.encode() in end, "before the event"
    assert b'"code":4004' in end
    [(key_id, failed)] = world.told
    assert (key_id, failed.offset) == ("a", 2)
    assert isinstance(failed, EventFailed)
    assert isinstance(failed.__cause__, RecursionError)
    assert world.background.failure is None
    assert world.background.errors["tail"] == 0


@pytest.mark.parametrize("live", [True, False])
async def test_an_encoding_that_fails_ends_the_streams_of_that_wire(
    world: Any, live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start()
    peer: Peer = await world.open("a", live=live)
    wire = http.NDJSON_PLAIN
    whole = type(wire).lines

    def failing(self: Any, lines: Any) -> bytes:
        if any(b'"bad"' in line for line in lines):
            raise ValueError("cannot be encoded")
        return whole(self, lines)

    monkeypatch.setattr(type(wire), "lines", failing)
    monkeypatch.setattr(type(wire), "text", lambda self, text: self.lines(text.split(b"\n")))
    await world.log.append([[world.draft(id=name) for name in ("first", "bad", "last")]])
    await world.until(lambda: b'"event_failed"' in peer.data)
    assert peer.got("first")
    assert not peer.got("bad")
    assert world.background.errors["tail"] == 0
    # Who comes later is served.
    monkeypatch.undo()
    later: Peer = await world.open("b")
    await world.append("after")
    await world.until(lambda: later.got("after"))


async def test_an_event_that_cannot_be_decoded_concerns_only_who_looks_inside(
    event: Callable[..., Event],
) -> None:
    index: Index[str] = Index()
    index.add("deep", [{"data.user": frozenset({"ada"})}])
    index.add("shallow", [{"tenant": frozenset({"acme"})}])
    assert index.looking_inside() == ["deep"]
    assert list(index.candidates(event(), dict)) == ["shallow"]


async def test_a_stream_that_comes_back_to_such_an_event_ends_again_and_holds_up_nobody(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    masking_fails(monkeypatch)
    world.start()
    await world.log.append([[world.draft(id="bad")]])
    for attempt in range(5):
        peer: Peer = await world.open(f"a{attempt}", grants=(MASKED,))
        subscription = next(one for one in world.hub.subscriptions if one.sink is peer)
        world.hub.move_to_replay(subscription)
        subscription.cursor = 0
        async with asyncio.timeout(patience()):
            while b'"event_failed"' not in peer.data:
                await world.seconds(0.25)
    assert len(world.told) == 5
    assert world.background.failure is None
