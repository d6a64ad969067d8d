"""Rates and daily quotas by themselves: against a model, and what a decision says."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.limits.limits import (
    BucketState,
    Concurrency,
    Daily,
    Decision,
    Rate,
    address_subject,
    closed,
)

START = 1_700_000_000.0


class TokenBucket:
    """The reference: exact, and the other way round: what is left, not what was used."""

    def __init__(self, rate: Fraction, burst: int) -> None:
        self.rate = rate
        self.burst = burst
        self.tokens = Fraction(burst)

    def take(self, cost: int, elapsed: Fraction) -> bool:
        self.tokens = min(Fraction(self.burst), self.tokens + elapsed * self.rate)
        # More than fits is let through when all is left, and paid off afterwards.
        allowed = self.tokens >= min(max(cost, 1), self.burst)
        if allowed:
            self.tokens -= cost
        return allowed

    def wait(self, cost: int) -> Fraction:
        missing = self.burst - self.tokens if cost > self.burst else max(cost, 1) - self.tokens
        return missing / self.rate


@given(
    count=st.integers(1, 1000),
    seconds=st.integers(1, 3600),
    burst=st.integers(1, 50),
    # Quarters of a second are exact in binary: the model and the code see the same times.
    steps=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60)), min_size=1, max_size=60),
)
def test_a_rate_decides_as_a_token_bucket_does(
    count: int, seconds: int, burst: int, steps: list[tuple[int, int]]
) -> None:
    rate = Rate("r", count, seconds, burst)
    model = TokenBucket(Fraction(count, seconds), burst)
    state, now = BucketState(0.0, START), START
    for quarters, cost in steps:
        now += quarters / 4
        expected = model.take(cost, Fraction(quarters, 4))
        allowed = rate.take(state, cost, now)
        # Where the model stands on the very edge, a rounded sum may decide either way.
        near = abs(model.tokens - max(cost, 1)) < Fraction(1, 10**5)
        full = abs(model.tokens - burst) < Fraction(1, 10**5)
        assert allowed == expected or near or full
        if allowed != expected:
            return
        decision = rate.decision(state, allowed, cost, source="local")
        if not allowed:
            assert decision.retry_after == pytest.approx(float(model.wait(cost)), abs=1e-3)
        assert decision.reset == pytest.approx(float((burst - model.tokens) / model.rate), abs=1e-3)


@given(
    count=st.integers(1, 500),
    seconds=st.integers(1, 60),
    burst=st.integers(1, 50),
    gaps=st.lists(st.integers(0, 2000), min_size=20, max_size=200),
)
def test_no_stretch_of_time_gets_more_than_the_rate_and_one_burst(
    count: int, seconds: int, burst: int, gaps: list[int]
) -> None:
    rate = Rate("r", count, seconds, burst)
    state, now = BucketState(0.0, START), START
    taken: list[float] = []
    for gap in gaps:
        now += gap / 1024
        if rate.take(state, 1, now):
            taken.append(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            allowance = burst + (taken[last] - taken[first]) * count / seconds
            assert last - first + 1 <= allowance + 1e-3


def test_a_request_refused_costs_nothing() -> None:
    rate, state = Rate("r", 1, 1, 2), BucketState(0.0, START)
    assert rate.take(state, 2, START)
    for _ in range(1000):
        assert not rate.take(state, 1, START)
    assert rate.take(state, 1, START + 1.0)


def test_time_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    rate, state = Rate("r", 1, 1, 5), BucketState(0.0, START)
    assert rate.take(state, 5, START)
    assert not rate.take(state, 1, START - 3600)
    assert not rate.take(state, 2, START - 3600 + 1.5)
    assert rate.take(state, 1, START - 3600 + 1.5)


def test_a_daily_quota_begins_anew_at_midnight_utc() -> None:
    daily, state = Daily("d", 10), BucketState(0.0, START)
    midnight = START - START % 86400 + 86400
    assert daily.take(state, 10, midnight - 1)
    assert not daily.take(state, 1, midnight - 0.5)
    refusal = daily.decision(state, False, 1, source="local")
    assert refusal.retry_after == pytest.approx(0.5)
    assert refusal.remaining == 0
    assert daily.take(state, 1, midnight)


def test_headers_of_a_refusal_round_up_to_whole_seconds() -> None:
    refusal = Decision(False, 100, 60, 0, 59.2, 0.6)
    assert refusal.headers() == {
        "RateLimit-Policy": "100;w=60",
        "RateLimit-Limit": "100",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": "60",
        "Retry-After": "1",
    }


def test_headers_of_what_was_let_through_have_no_retry_after() -> None:
    rate, state = Rate("r", 10, 60), BucketState(0.0, START)
    rate.take(state, 4, START)
    headers = rate.decision(state, True, 4, source="shared").headers()
    assert headers == {
        "RateLimit-Policy": "10;w=60",
        "RateLimit-Limit": "10",
        "RateLimit-Remaining": "6",
        "RateLimit-Reset": "24",
    }


def test_a_closed_limit_refuses_everything_for_a_moment() -> None:
    refusal = closed(Daily("d", 5, when_down="closed"))
    assert (refusal.allowed, refusal.source) == (False, "closed")
    assert refusal.headers()["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("address", "subject"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("/run/gateway.sock", "/run/gateway.sock"),
    ],
)
def test_an_ipv6_subscriber_is_counted_by_its_network(address: str, subject: str) -> None:
    assert address_subject(address) == subject


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rate("r", 0),
        lambda: Rate("r", 1, 0),
        lambda: Rate("r", 10, 1, 0.5),
        lambda: Daily("d", 0),
        lambda: Concurrency("c", 0),
    ],
)
def test_a_limit_that_lets_nothing_through_is_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"above 0|at least 1"):
        make()
