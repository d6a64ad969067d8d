"""The pace of one stream: when, how much at once, and when it has waited for too long."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.limits.delivery_limits import Deliveries
from gateway.access.limits.limits import Daily, Limit, Rate
from gateway.streaming.live.delivery_pacer import DeliveryPacer


def paced(
    clock: Any, *events: Limit, size: tuple[Limit, ...] = (), patience: float = 60
) -> DeliveryPacer:
    return DeliveryPacer(Deliveries(clock).of("k", events=events, size=size), clock, patience)


def test_below_the_rate_there_is_no_wait(clock: Any) -> None:
    pacer = paced(clock, Rate("e", 100))
    for _ in range(10):
        assert pacer.wait() == 0.0
        pacer.sent(10, 1000)
    assert pacer.wait() == 0.0


def test_above_the_rate_it_waits_until_a_few_may_go_together(clock: Any) -> None:
    pacer = paced(clock, Rate("e", 1000))
    pacer.sent(1001, 1000)
    assert pacer.wait() == 0.1
    clock.tick(0.1)
    assert pacer.wait() == 0.0
    assert pacer.most(None, 1) == 99


def test_a_long_wait_is_waited_in_parts(clock: Any) -> None:
    pacer = paced(clock, Rate("e", 1))
    pacer.sent(100, 1000)
    assert pacer.wait() == 1.0
    assert not pacer.given_up


def test_the_streams_of_a_key_have_equal_parts_of_what_may_be_sent(clock: Any) -> None:
    pacer = paced(clock, Rate("e", 100))
    assert [pacer.most(None, streams) for streams in (1, 4, 1000)] == [100, 25, 1]
    assert pacer.most(7, 1) == 7


def test_how_many_bytes_fit_is_told_by_the_size_of_the_last_events(clock: Any) -> None:
    pacer = paced(clock, size=(Rate("b", 10_000),))
    pacer.sent(2, 2000)
    assert pacer.most(None, 1) == 8
    clock.tick(1)
    assert pacer.most(None, 1) == 10


def test_an_event_larger_than_the_rate_still_goes_out(clock: Any) -> None:
    pacer = paced(clock, size=(Rate("b", 10),))
    assert pacer.most(None, 1) == 1


@pytest.mark.parametrize("patience", [0, 60])
def test_only_a_quota_is_given_up_and_only_after_a_while(clock: Any, patience: float) -> None:
    pacer = paced(clock, Daily("d", 10), Rate("e", 1), patience=patience)
    pacer.sent(9, 900)
    clock.tick(1000)
    assert pacer.wait() == 0.0
    pacer.sent(1, 100)
    assert pacer.wait() == 1.0
    assert pacer.given_up is (patience == 0)
    clock.tick(patience)
    pacer.wait()
    assert pacer.given_up


def test_what_comes_with_the_next_day_is_waited_for_anew(clock: Any) -> None:
    pacer = paced(clock, Daily("d", 1), patience=60)
    pacer.sent(1, 1)
    pacer.wait()
    clock.tick(86400)
    assert pacer.wait() == 0.0
    pacer.sent(1, 1)
    assert pacer.wait() == 1.0
    assert not pacer.given_up
