"""Standings and deliveries in memory: bounded, and only forgotten where that changes nothing."""

from __future__ import annotations

import gc
from typing import Any

from gateway.access.limits.buckets import SubjectBucket, SubjectBuckets
from gateway.access.limits.delivery_limits import Deliveries
from gateway.access.limits.limits import Daily, Rate

RATE = Rate("r", 1, 60)


def test_a_flood_of_addresses_is_bounded_and_the_oldest_are_forgotten(clock: Any) -> None:
    buckets = SubjectBuckets(SubjectBucket, clock, most=2000)
    for n in range(10_000):
        bucket = buckets.get(RATE, f"address{n}")
        RATE.take(bucket.state, 1, clock.monotonic())
    assert len(buckets) == 2000
    assert buckets.find(RATE, "address0") is None
    assert buckets.find(RATE, "address9999") is not None


def test_what_has_recovered_is_forgotten_first(clock: Any) -> None:
    buckets = SubjectBuckets(SubjectBucket, clock, most=2000)
    slow = Rate("slow", 1, 86400)
    slow.take(buckets.get(slow, "debtor").state, 1, clock.monotonic())
    for n in range(20_000):
        clock.tick(0.1)
        bucket = buckets.get(RATE, f"address{n}")
        RATE.take(bucket.state, 1, clock.monotonic())
    assert len(buckets) < 2000
    debtor = buckets.find(slow, "debtor")
    assert debtor is not None
    assert debtor.state.level == 1


def test_an_account_is_found_again_by_limit_and_subject(clock: Any) -> None:
    buckets = SubjectBuckets(SubjectBucket, clock)
    assert buckets.get(RATE, "a") is buckets.get(RATE, "a")
    assert buckets.get(RATE, "a") is not buckets.get(RATE, "b")
    assert buckets.get(RATE, "a") is not buckets.get(Daily("d", 1), "a")


def test_a_delivery_without_streams_is_kept_until_its_debt_is_paid(clock: Any) -> None:
    buckets = Deliveries(clock)
    buckets.of("k", events=[Rate("e", 10, 1)]).take(1000, 0)
    gc.collect()
    assert buckets.of("k", events=[Rate("e", 10, 1)]).take(0, 0) == 99.0
    clock.tick(200)
    for n in range(1000):
        buckets.of(f"other{n}", events=[Rate("e", 10, 1)]).take(1, 0)
    gc.collect()
    assert buckets.of("k", events=[Rate("e", 10, 1)]).room() == 10


def test_deliveries_of_many_keys_that_come_and_go_are_bounded(clock: Any) -> None:
    buckets = Deliveries(clock)
    for n in range(5000):
        clock.tick(0.1)
        buckets.of(f"k{n}", events=[Rate("e", 10, 1)]).take(1, 0)
    gc.collect()
    assert len(buckets) < 600
