"""The pace of one stream: when, how much at once, and when it has waited for too long."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.limits.delivery_limits import Buckets
from gateway.access.limits.limits import Daily, Limit, Rate
from gateway.streaming.live.delivery_pacer import Pacing


def paced(clock: Any, *events: Limit, size: tuple[Limit, ...] = (), patience: float = 60) -> Pacing:
    return Pacing(Buckets(clock).of("k", events=events, size=size), clock, patience)


def test_below_the_rate_there_is_no_wait(clock: Any) -> None:
    pacing = paced(clock, Rate("e", 100))
    for _ in range(10):
        assert pacing.wait() == 0.0
        pacing.sent(10, 1000)
    assert pacing.wait() == 0.0


def test_above_the_rate_it_waits_until_a_few_may_go_together(clock: Any) -> None:
    pacing = paced(clock, Rate("e", 1000))
    pacing.sent(1001, 1000)
    assert pacing.wait() == 0.1
    clock.tick(0.1)
    assert pacing.wait() == 0.0
    assert pacing.most(None, 1) == 99


def test_a_long_wait_is_waited_in_parts(clock: Any) -> None:
    pacing = paced(clock, Rate("e", 1))
    pacing.sent(100, 1000)
    assert pacing.wait() == 1.0
    assert not pacing.given_up


def test_the_streams_of_a_key_have_equal_parts_of_what_may_be_sent(clock: Any) -> None:
    pacing = paced(clock, Rate("e", 100))
    assert [pacing.most(None, streams) for streams in (1, 4, 1000)] == [100, 25, 1]
    assert pacing.most(7, 1) == 7


def test_how_many_bytes_fit_is_told_by_the_size_of_the_last_events(clock: Any) -> None:
    pacing = paced(clock, size=(Rate("b", 10_000),))
    pacing.sent(2, 2000)
    assert pacing.most(None, 1) == 8
    clock.tick(1)
    assert pacing.most(None, 1) == 10


def test_an_event_larger_than_the_rate_still_goes_out(clock: Any) -> None:
    pacing = paced(clock, size=(Rate("b", 10),))
    assert pacing.most(None, 1) == 1


@pytest.mark.parametrize("patience", [0, 60])
def test_only_a_quota_is_given_up_and_only_after_a_while(clock: Any, patience: float) -> None:
    pacing = paced(clock, Daily("d", 10), Rate("e", 1), patience=patience)
    pacing.sent(9, 900)
    clock.tick(1000)
    assert pacing.wait() == 0.0
    pacing.sent(1, 100)
    assert pacing.wait() == 1.0
    assert pacing.given_up is (patience == 0)
    clock.tick(patience)
    pacing.wait()
    assert pacing.given_up


def test_what_comes_with_the_next_day_is_waited_for_anew(clock: Any) -> None:
    pacing = paced(clock, Daily("d", 1), patience=60)
    pacing.sent(1, 1)
    pacing.wait()
    clock.tick(86400)
    assert pacing.wait() == 0.0
    pacing.sent(1, 1)
    assert pacing.wait() == 1.0
    assert not pacing.given_up
