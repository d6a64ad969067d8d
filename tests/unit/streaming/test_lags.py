"""Each second's look at all streams: how far behind they are, and whose peers take nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from gateway.access.policy.decision import View
from gateway.clock import format_rfc3339
from gateway.delivery.running.stream import OUTBOUND
from gateway.event import Event
from gateway.filters.scope import Scope
from gateway.formats.csv import CsvOptions
from gateway.formats.registry import NATIVE
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.lags import MOST_AT_ONCE, STALLED_SECONDS
from gateway.streaming.live.stream_timings import StreamTimings
from gateway.streaming.live.subscription import Subscription
from gateway.streaming.live.totals import Totals
from gateway.wire.csv_body import CsvBody
from gateway.wire.framing import CLIENT_GONE, KEY_REVOKED, RESTART, TRANSPORTS, Wire
from gateway.wire.http_body import NDJSON, NDJSON_PLAIN, SSE, SSE_PLAIN
from gateway.wire.websocket_writer import PLAIN, SUBPROTOCOLS
from tests.support.extent import Extent

if TYPE_CHECKING:
    from tests.conftest import FakeClock

MakeEvent = Callable[..., Event]


class Peer:
    """A sink of which bytes may wait: so many that ever did, and that do now."""

    descriptor = -1
    waited = unsent = 0

    @property
    def clear(self) -> bool:
        return not self.unsent

    @property
    def vanished(self) -> bool:
        return False

    def write(self, data: bytes | memoryview) -> bool:
        return True

    async def drained(self) -> None: ...

    def finish(self, last: bytes, within: float) -> None: ...

    def abort(self) -> None: ...

    def takes(self, size: int) -> None:
        self.unsent -= size

    def waits(self, size: int) -> None:
        self.waited += size
        self.unsent += size


@pytest.fixture
def log() -> Extent:
    return Extent()


@pytest.fixture
def hub(clock: FakeClock, log: Extent) -> Hub:
    return Hub(log, clock, lambda stream: None, StreamTimings())


def join(hub: Hub, wire: Wire = NDJSON, cursor: int | None = None) -> tuple[Peer, Subscription]:
    peer, view = Peer(), View.of(Scope(category=("**",), reserved=False))
    position = hub.position if cursor is None else cursor
    stream = Subscription(Interest(StreamQuery(Scope(), view), wire), peer, "key", position)
    hub.open(stream)
    return peer, stream


def counted(cells: Sequence[float], bounds: Sequence[float]) -> dict[float, float]:
    """Counts by bound, without those that are 0."""
    places = zip((*bounds, float("inf")), cells[:-1], strict=True)
    return {bound: count for bound, count in places if count}


def lags(totals: Totals) -> dict[float, float]:
    return counted(totals.lag.cells, totals.lag.bounds)


def delays(hub: Hub, transport: str) -> dict[float, float]:
    seconds = hub.totals.transports[transport].seconds
    return counted(seconds.cells, seconds.bounds)


def recorded(event: MakeEvent, offset: int, at: float) -> Event:
    time = format_rfc3339(int(at * 1_000_000)).encode()
    json = b'{"cursor":"k3f9xq7m2p-%020d","recorded_at":"%b"}' % (offset, time)
    return event(offset, json=json)


# Lags


async def test_a_live_stream_of_which_nothing_waits_has_no_lag(hub: Hub, clock: FakeClock) -> None:
    join(hub)
    await hub.measure_lags()
    await clock.advance(3600)
    await hub.measure_lags()
    assert lags(hub.totals) == {0.001: 2}


async def test_a_stream_lags_since_the_look_that_found_the_log_beyond_it(
    hub: Hub, log: Extent, clock: FakeClock
) -> None:
    join(hub, cursor=-1)
    for head in (0, 5, 5, 9):
        log.head = head
        hub.move_to(head)
        await hub.measure_lags()
        await clock.advance(1)
    # The first look found what is behind -1.
    assert lags(hub.totals) == {0.001: 1, 1.0: 1, 2.5: 1, 5.0: 1}
    [behind] = hub.subscriptions
    behind.cursor = 5
    await hub.measure_lags()
    assert lags(hub.totals)[1.0] == 2, "of the head 9 a look knows since a second"
    behind.cursor = 9
    await hub.measure_lags()
    assert lags(hub.totals)[0.001] == 2


async def test_live_streams_lag_where_the_tail_stands_or_since_the_oldest_event_they_wait_for(
    hub: Hub, log: Extent, clock: FakeClock, event: MakeEvent
) -> None:
    join(hub)
    join(hub)
    log.head = 1
    await hub.measure_lags()
    await clock.advance(4)
    await hub.measure_lags()
    assert lags(hub.totals) == {0.001: 2, 5.0: 2}
    hub.publish([recorded(event, 1, clock.now() - 20)], 1)
    await hub.measure_lags()
    assert lags(hub.totals) == {0.001: 2, 5.0: 2, 60.0: 2}
    hub.flush()
    await hub.measure_lags()
    assert lags(hub.totals)[0.001] == 4


async def test_what_is_known_of_the_past_is_bounded_and_lags_stay_beyond_a_minute(
    hub: Hub, log: Extent, clock: FakeClock
) -> None:
    join(hub, cursor=-1)
    for head in range(1000):
        log.head = head
        hub.move_to(head)
        await hub.measure_lags()
        await clock.advance(1)
    assert lags(hub.totals)[float("inf")] == 1000 - 61
    assert hub.totals.lag.cells[-1] < 1000 * 300


async def test_no_slice_looks_at_more_streams_than_it_may_and_a_look_counts_when_it_is_whole(
    hub: Hub, log: Extent, clock: FakeClock, event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    ended: list[Subscription] = []

    class Stretch:
        """One that has always taken long enough."""

        async def rest(self) -> None:
            looked.append(0)
            assert (lags(hub.totals), hub.totals.stalled) == before
            if ended:
                hub.forget(ended.pop())

    def clear(peer: Peer) -> bool:
        looked[-1] += 1
        return not peer.unsent

    monkeypatch.setattr("gateway.streaming.live.lags.Stretch", Stretch)
    many = 5 * MOST_AT_ONCE
    streams = [join(hub, cursor=-1) for _ in range(many)]
    for _ in range(many):
        join(hub)
    before = ({}, 0)
    for peer, _ in streams[:3]:
        peer.waits(1)
    monkeypatch.setattr(Peer, "clear", property(clear))
    await hub.measure_lags()
    assert (max(looked), sum(looked)) == (MOST_AT_ONCE, 2 * many)
    before = ({0.001: 2 * many}, 0)
    await clock.advance(STALLED_SECONDS)
    hub.publish([recorded(event, 1, clock.now() - 20)], 1)
    # One of them ends after the look has begun.
    ended.append(streams[-1][1])
    await hub.measure_lags()
    assert lags(hub.totals) == {0.001: 2 * many, 5.0: many - 1, 60.0: many}
    assert hub.totals.stalled == 3


# Stalls


async def test_a_peer_stalls_that_takes_nothing_for_five_seconds_though_bytes_wait(
    hub: Hub, clock: FakeClock
) -> None:
    (stalls, _), (slow, _), _ = join(hub), join(hub, cursor=-1), join(hub)
    stalls.waits(100)
    slow.waits(100)
    for _ in range(int(STALLED_SECONDS)):
        await hub.measure_lags()
        assert hub.totals.stalled == 0
        await clock.advance(1)
        # What is written meanwhile is not taken, and a little is enough.
        stalls.waits(10)
        slow.takes(1)
    await hub.measure_lags()
    assert hub.totals.stalled == 1
    stalls.takes(stalls.unsent)
    await hub.measure_lags()
    assert hub.totals.stalled == 0


async def test_a_peer_that_reads_from_the_store_stalls_likewise_until_its_stream_ends(
    hub: Hub, clock: FakeClock
) -> None:
    peer, stream = join(hub, cursor=-1)
    peer.waits(100)
    await hub.measure_lags()
    await clock.advance(STALLED_SECONDS)
    # The answer to a ping takes the place of another one.
    peer.unsent += 2
    await hub.measure_lags()
    assert hub.totals.stalled == 1
    hub.forget(stream)
    await hub.measure_lags()
    assert hub.totals.stalled == 0


# Counts


async def test_deliveries_are_timed_from_the_recording_of_the_first_event_read(
    hub: Hub, clock: FakeClock, event: MakeEvent
) -> None:
    for wire in (NDJSON, NDJSON, SSE_PLAIN):
        join(hub, wire)
    hub.publish([recorded(event, 1, clock.now() - 0.2), recorded(event, 2, clock.now())], 2)
    await clock.advance(0.2)
    hub.flush()
    assert delays(hub, "ndjson") == {0.5: 4}
    assert delays(hub, "sse") == {0.5: 2}
    assert hub.totals.transports["sse"].seconds.cells[-1] == pytest.approx(2 * 0.4, abs=1e-5)
    assert (hub.totals.events, delays(hub, "websocket")) == (6, {})


@pytest.mark.parametrize("ahead", [3600.0, None])
async def test_an_event_of_a_clock_ahead_takes_no_time_and_one_without_time_since_it_was_read(
    hub: Hub, clock: FakeClock, event: MakeEvent, ahead: float | None
) -> None:
    join(hub)
    hub.publish([event(1) if ahead is None else recorded(event, 1, clock.now() + ahead)], 1)
    await clock.advance(0.2)
    hub.flush()
    assert delays(hub, "ndjson") == {0.001 if ahead else 0.25: 1}
    assert hub.totals.transports["ndjson"].seconds.cells[-1] >= 0


async def test_streams_are_counted_by_transport_and_their_ends_by_code(hub: Hub) -> None:
    streams = [join(hub, wire)[1] for wire in (SSE, SSE_PLAIN, PLAIN, SUBPROTOCOLS["audit.v1"])]
    totals = hub.totals
    assert {name: one.open for name, one in totals.transports.items()} == {
        "sse": 2, "ndjson": 0, "csv": 0, "websocket": 1, "audit.v1": 1, "audit.v1.batch": 0,
        "destination": 0,
    }  # fmt: skip
    for stream, end in zip(streams, (KEY_REVOKED, RESTART, KEY_REVOKED), strict=False):
        hub.end(stream, end)
        # When its connection is gone.
        hub.forget(stream)
    hub.forget(streams[3])
    assert totals.ends == {"4501": 2, "1012": 1, CLIENT_GONE: 1}
    assert (totals.opened, totals.ended) == (4, 4)
    assert not any(one.open for one in totals.transports.values())


def test_every_wire_belongs_to_a_transport_and_every_transport_has_one() -> None:
    csv = CsvBody(CsvOptions(), NATIVE)
    wires = (SSE, SSE_PLAIN, NDJSON, NDJSON_PLAIN, csv, PLAIN, *SUBPROTOCOLS.values(), OUTBOUND)
    assert [wire.transport for wire in wires] == [
        "sse", "sse", "ndjson", "ndjson", "csv", "websocket", "audit.v1", "audit.v1.batch",
        "audit.v1", "destination",
    ]  # fmt: skip
    assert {wire.transport for wire in wires} == set(TRANSPORTS)
