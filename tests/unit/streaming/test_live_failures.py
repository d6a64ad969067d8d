"""What fails in the hub takes along those whom it concerns, and nobody misses an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from gateway.access.policy.decision import View
from gateway.event import Event
from gateway.filters.index import Index
from gateway.filters.scope import Scope
from gateway.http.connection.web_origin import parse_origin
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.stream_timings import StreamTimings
from gateway.streaming.live.subscription import Subscription
from gateway.wire.http_body import NDJSON_PLAIN
from tests.support.extent import Extent

if TYPE_CHECKING:
    from tests.conftest import FakeClock

MakeEvent = Callable[..., Event]
ALL = Scope()
EVERYTHING = View.of(Scope(category=("**",), reserved=False))


class Peer:
    """A sink that may be broken in a way that nobody has thought of."""

    descriptor = -1
    clear = True

    def __init__(self) -> None:
        self.data = b""
        self.broken = self.aborted = False

    def write(self, data: bytes) -> bool:
        if self.broken:
            raise RuntimeError("nobody has thought of this")
        self.data += data
        return True

    async def drained(self) -> None: ...

    def finish(self, last: bytes, within: float) -> None:
        self.data += last

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
def replayed() -> list[Subscription]:
    return []


@pytest.fixture
def hub(clock: FakeClock, replayed: list[Subscription]) -> Hub:
    return Hub(Extent(), clock, replayed.append, StreamTimings())


def opened(hub: Hub, wanted: Scope = ALL) -> Subscription:
    interest = Interest(StreamQuery(wanted, EVERYTHING), NDJSON_PLAIN)
    subscription = Subscription(interest, Peer(), "key", hub.position)
    hub.open(subscription)
    return subscription


def test_a_write_that_fails_cuts_that_stream_and_the_others_get_their_events(
    hub: Hub, event: MakeEvent
) -> None:
    before, bad, behind = (opened(hub) for _ in range(3))
    bad.sink.broken = True  # type: ignore[attr-defined]
    hub.publish([event(1)], 1)
    hub.flush()
    assert bad.sink.aborted  # type: ignore[attr-defined]
    assert before.sink.data == behind.sink.data != b""  # type: ignore[attr-defined]
    assert before.delivered == behind.delivered == 1


def test_a_group_that_could_not_be_indexed_is_made_anew(
    hub: Hub, event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise RuntimeError("nobody has thought of this")

    with monkeypatch.context() as broken:
        broken.setattr(Index, "add", failing)
        with pytest.raises(RuntimeError):
            opened(hub)
    later = opened(hub)
    hub.publish([event(1)], 1)
    hub.flush()
    assert later.delivered == 1


@pytest.mark.parametrize("until", [None, 2])
def test_a_half_closed_client_gets_all_that_was_there_before_the_hub_knew_of_it(
    hub: Hub, until: int | None, replayed: list[Subscription]
) -> None:
    stream = opened(hub)
    stream.until = until
    hub._log = Extent(head=2)
    hub.complete_at_head(stream)
    assert stream.until == 2
    assert stream.when_complete.reason == ("client_closed" if until is None else "complete")
    assert replayed == [stream]


def test_an_origin_has_no_letters_that_only_become_ascii() -> None:
    assert parse_origin("https://kiosk.example") == ("https", "kiosk.example", "443")
    assert parse_origin("https://\u212aiosk.example") is None
