"""A burst goes to each member in parts that it can take, and nobody who keeps up is demoted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from gateway.access.policy.decision import View
from gateway.event import Event
from gateway.filters.scope import Scope
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.stream_timings import StreamTimings
from gateway.streaming.live.subscription import State, Subscription
from gateway.wire.http_body import NDJSON_PLAIN
from tests.support.extent import Extent

if TYPE_CHECKING:
    from tests.conftest import FakeClock

MakeEvent = Callable[..., Event]
BODY = b'{"cursor":"e-%020d","x":"' + b"x" * 600 + b'"}'
MOST = 64 * 1024


class Peer:
    """A sink that takes everything, or nothing more once it is `full`."""

    descriptor = -1
    clear = True

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.full = False

    def write(self, data: bytes) -> bool:
        if not self.full:
            self.writes.append(data)
        return not self.full

    async def drained(self) -> None: ...

    def finish(self, last: bytes, within: float) -> None: ...

    def abort(self) -> None: ...


@pytest.fixture
def replayed() -> list[Subscription]:
    return []


@pytest.fixture
def hub(clock: FakeClock, replayed: list[Subscription]) -> Hub:
    return Hub(Extent(), clock, replayed.append, StreamTimings())


def join(hub: Hub) -> tuple[Peer, Subscription]:
    view = View.of(Scope(category=("**",), reserved=False))
    peer = Peer()
    interest = Interest(StreamQuery(Scope(), view), NDJSON_PLAIN)
    subscription = Subscription(interest, peer, "key", hub.position)
    hub.open(subscription)
    peer.writes.clear()
    return peer, subscription


def burst(event: MakeEvent, first: int, last: int) -> list[Event]:
    return [event(offset, json=BODY % offset) for offset in range(first, last + 1)]


def offsets(peer: Peer) -> list[int]:
    lines = b"".join(peer.writes).splitlines()
    return [int(line[13:33]) for line in lines]


async def test_a_burst_goes_out_in_parts_in_order_and_once(hub: Hub, event: MakeEvent) -> None:
    peers = [join(hub) for _ in range(3)]
    hub.publish(burst(event, 1, 1000), 1000)
    rounds = 0
    while hub.flush() is not None:
        rounds += 1
        for peer, subscription in peers:
            assert len(peer.writes) == rounds
            assert hub.cursor_of(subscription) == f"e-{offsets(peer)[-1]:020d}"
        if rounds == 3:
            # What comes meanwhile comes behind.
            hub.publish(burst(event, 1001, 1500), 1500)
    for peer, subscription in peers:
        assert offsets(peer) == list(range(1, 1501))
        assert max(map(len, peer.writes)) <= MOST
        assert subscription.state is State.LIVE
        assert hub.cursor_of(subscription) == f"e-{1500:020d}"
    assert hub.totals.events == 3 * 1500
    assert hub.totals.bytes == sum(len(data) for peer, _ in peers for data in peer.writes)
    assert hub.totals.demotions == 0


async def test_who_is_demoted_within_a_burst_goes_on_behind_what_it_got(
    hub: Hub, event: MakeEvent, replayed: list[Subscription]
) -> None:
    (slow, subscription), (quick, _) = join(hub), join(hub)
    hub.publish(burst(event, 1, 1000), 1000)
    hub.flush()
    got = offsets(slow)[-1]
    slow.full = True
    hub.flush()
    assert replayed == [subscription]
    # The part that was not taken is in the connection: it counts as written.
    assert got < subscription.cursor < 1000
    assert hub.cursor_of(subscription) == f"e-{offsets(quick)[-1]:020d}"
    while hub.flush() is not None:
        pass
    assert offsets(quick) == list(range(1, 1001))


async def test_who_comes_within_a_burst_gets_only_what_comes_later(
    hub: Hub, event: MakeEvent
) -> None:
    peer, _ = join(hub)
    hub.publish(burst(event, 1, 500), 500)
    hub.flush()
    late, _ = join(hub)
    hub.publish(burst(event, 501, 700), 700)
    while hub.flush() is not None:
        pass
    assert offsets(peer) == list(range(1, 701))
    assert offsets(late) == list(range(501, 701))


async def test_the_tail_waits_while_somebody_is_owed_too_much(hub: Hub, event: MakeEvent) -> None:
    _, subscription = join(hub)
    published = most = 0
    for _ in range(100):
        # As the tail does: faster than what is written in a round.
        while hub.takes_events:
            hub.publish(burst(event, published + 1, published + 1000), published + 1000)
            published += 1000
        hub.flush()
        most = max(most, published - int(hub.cursor_of(subscription).split("-")[1]))
    assert 10_000 < most < 15_000
    while hub.flush() is not None:
        pass
    assert hub.takes_events


async def test_others_are_not_held_up_by_who_waits_to_join_more(
    hub: Hub, event: MakeEvent, clock: FakeClock
) -> None:
    """After a few events at once a group waits a moment; another one's burst goes on."""
    few, _ = join(hub)
    hub.publish(burst(event, 1, 2), 2)
    assert hub.flush() is None
    hub.publish(burst(event, 3, 4), 4)
    assert hub.flush() == pytest.approx(0.01)
    many, _ = join(hub)
    hub.publish(burst(event, 5, 1000), 1000)
    rounds = 0
    while (wait := hub.flush()) == 0.0:
        rounds += 1
    assert rounds >= 8
    assert offsets(many) == list(range(5, 1001))
    assert offsets(few) == [1, 2]
    assert wait == pytest.approx(0.01)
    await clock.advance(0.02)
    while hub.flush() is not None:
        pass
    assert offsets(few) == list(range(1, 1001))


async def test_live_streams_that_are_forgotten_are_counted(
    hub: Hub, event: MakeEvent, clock: FakeClock
) -> None:
    for _ in range(3):
        join(hub)
    hub.publish(burst(event, 1, 1000), 1000)
    await clock.advance(4)
    hub.flush()
    await clock.advance(4)
    assert hub.overdue() == 0
    await clock.advance(2)
    assert hub.overdue() == 3
    while hub.flush() is not None:
        pass
    assert hub.overdue() == 0
