"""What every adapter of `gateway.access.limits.ports` does. Tests own the time."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.limits.limits import Concurrency, Daily, Decision, Rate
from gateway.access.limits.ports import Lease, Shared
from gateway.access.usage.windows import Row
from gateway.adapters.redis import scripts
from gateway.errors import InvalidRequest
from tests.contract.sharing import ADAPTERS, StillClock, adapter
from tests.support.examples import examples
from tests.support.services.valkey import Valkey

# Past a moment that a decision named, by more than the rounding of microseconds.
SOON = 0.001


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture(params=ADAPTERS)
async def shared(request: pytest.FixtureRequest, clock: Any) -> AsyncIterator[Shared]:
    url = request.getfixturevalue("server").url if request.param == "redis" else ""
    async with adapter(request.param, url)(clock) as shared:
        yield shared


async def allowed(shared: Shared, limit: Rate | Daily, subject: str, times: int) -> int:
    """How many of so many requests are let through."""
    decisions = [await shared.limits.take(limit, subject) for _ in range(times)]
    return sum(decision.allowed for decision in decisions)


# Scripts of Redis


def test_the_server_loads_each_script_under_the_name_it_is_called_by(server: Valkey) -> None:
    known = [one for one in vars(scripts).values() if isinstance(one, scripts.Script)]
    assert len(known) == 5
    for script in known:
        assert server.command("SCRIPT", "LOAD", script.text) == script.sha


# Limits


async def test_a_burst_is_let_through_and_then_the_rate(shared: Shared, clock: Any) -> None:
    rate = Rate("r", 10, 1, burst=20)
    assert await allowed(shared, rate, "k", 50) == 20
    clock.tick(1.0 + SOON)
    assert await allowed(shared, rate, "k", 50) == 10


async def test_a_decision_says_what_remains_and_when_it_is_back(shared: Shared) -> None:
    rate = Rate("r", 10, 1)
    decision = await shared.limits.take(rate, "k", 4)
    assert (decision.allowed, decision.limit, decision.window) == (True, 10, 1)
    assert decision.remaining == 6
    assert decision.reset == pytest.approx(0.4)
    assert decision.retry_after == 0.0


async def test_retry_after_is_when_it_is_let_through_and_no_earlier(
    shared: Shared, clock: Any
) -> None:
    rate = Rate("r", 1, 10, burst=3)
    await allowed(shared, rate, "k", 3)
    refusal = await shared.limits.take(rate, "k")
    assert not refusal.allowed
    assert refusal.retry_after == pytest.approx(10.0)
    clock.tick(refusal.retry_after - 0.1)
    later = await shared.limits.take(rate, "k")
    assert not later.allowed
    assert later.retry_after == pytest.approx(0.1)
    clock.tick(0.1 + SOON)
    assert (await shared.limits.take(rate, "k")).allowed


async def test_refusals_do_not_put_off_the_next_request(shared: Shared, clock: Any) -> None:
    rate = Rate("r", 1, 1)
    assert await allowed(shared, rate, "k", 100) == 1
    clock.tick(1.0 + SOON)
    assert await allowed(shared, rate, "k", 100) == 1


async def test_a_cost_is_taken_whole_or_not_at_all(shared: Shared) -> None:
    rate = Rate("r", 10, 1)
    assert (await shared.limits.take(rate, "k", 4)).allowed
    assert not (await shared.limits.take(rate, "k", 7)).allowed
    assert (await shared.limits.take(rate, "k", 6)).allowed


async def test_a_refused_large_cost_does_not_block_a_smaller_one(shared: Shared) -> None:
    rate = Rate("r", 10, 1)
    await shared.limits.take(rate, "k", 8)
    assert not (await shared.limits.take(rate, "k", 5)).allowed
    assert (await shared.limits.take(rate, "k", 2)).allowed


async def test_a_cost_above_the_burst_is_let_through_when_nothing_is_used_and_paid_off(
    shared: Shared, clock: Any
) -> None:
    rate = Rate("r", 10, 1)
    assert (await shared.limits.take(rate, "k", 100)).allowed
    refusal = await shared.limits.take(rate, "k")
    assert refusal.retry_after == pytest.approx(9.1)
    clock.tick(9.1 + SOON)
    assert (await shared.limits.take(rate, "k")).allowed
    assert not (await shared.limits.take(rate, "k", 100)).allowed


async def test_a_cost_of_nothing_asks_and_takes_nothing(shared: Shared) -> None:
    for limit in (Rate("r", 2, 60), Daily("d", 2)):
        for _ in range(5):
            assert (await shared.limits.take(limit, "k", 0)).allowed
        assert await allowed(shared, limit, "k", 3) == 2
        assert not (await shared.limits.take(limit, "k", 0)).allowed


async def test_subjects_and_limits_are_counted_apart(shared: Shared) -> None:
    one, other = Rate("one", 1, 60), Rate("other", 1, 60)
    assert await allowed(shared, one, "a", 2) == 1
    assert await allowed(shared, one, "b", 2) == 1
    assert await allowed(shared, other, "a", 2) == 1


async def test_a_daily_quota_lasts_until_midnight_utc(shared: Shared, clock: Any) -> None:
    daily = Daily("d", 100)
    left = 86400 - clock.now() % 86400
    assert (await shared.limits.take(daily, "k", 98)).remaining == 2
    refusal = await shared.limits.take(daily, "k", 3)
    assert refusal.retry_after == pytest.approx(left)
    assert await allowed(shared, daily, "k", 5) == 2
    clock.tick(left - 1)
    assert await allowed(shared, daily, "k", 5) == 0
    clock.tick(1 + SOON)
    assert (await shared.limits.take(daily, "k", 100)).allowed


async def test_new_figures_hold_for_what_is_known_already(shared: Shared) -> None:
    await shared.limits.take(Rate("r", 10, 60), "k", 8)
    assert not (await shared.limits.take(Rate("r", 5, 60), "k")).allowed
    assert (await shared.limits.take(Rate("r", 20, 60), "k", 12)).allowed


async def test_requests_at_the_same_time_do_not_get_more_than_one_burst(shared: Shared) -> None:
    rate = Rate("r", 250, 60)
    decisions = await asyncio.gather(*[shared.limits.take(rate, "k") for _ in range(1000)])
    assert sum(decision.allowed for decision in decisions) == 250


async def test_a_request_given_up_by_its_client_harms_nobody(shared: Shared) -> None:
    rate = Rate("r", 5, 60)
    asking = [asyncio.ensure_future(shared.limits.take(rate, "k")) for _ in range(3)]
    await asyncio.sleep(0)
    asking[1].cancel()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert [isinstance(result, Decision) for result in results][::2] == [True, True]
    assert 2 <= await allowed(shared, rate, "k", 10) <= 3


@settings(max_examples=examples(40))
@pytest.mark.parametrize("name", ADAPTERS)
@given(
    count=st.integers(1, 400),
    seconds=st.sampled_from([1, 2, 60]),
    burst=st.integers(1, 300),
    steps=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 120)), min_size=1, max_size=25),
)
def test_a_rate_decides_as_a_token_bucket_does(
    server: Valkey,
    name: str,
    count: int,
    seconds: int,
    burst: int,
    steps: list[tuple[int, int]],
) -> None:
    async def play() -> None:
        clock, tokens, rate = StillClock(), Fraction(burst), Rate("r", count, seconds, burst)
        # Taking ahead moves at most 1 % of the burst from one moment to a later one.
        spare = burst // 100 if name == "redis" else 0
        edge = Fraction(1, 1000)
        async with adapter(name, server.url)(clock) as shared:
            for eighths, cost in steps:
                clock.tick(eighths / 8)
                tokens += Fraction(eighths, 8) * Fraction(count, seconds)
                tokens = min(Fraction(burst), tokens)
                needed = burst if cost > burst else max(cost, 1)
                decision = await shared.limits.take(rate, "k", cost)
                if decision.allowed:
                    assert tokens + spare >= needed - edge
                    tokens -= cost
                else:
                    assert tokens - spare < needed + edge

    asyncio.run(play())


# Leases


async def take_places(shared: Shared, limit: Concurrency, times: int) -> list[Lease]:
    results = [await shared.leases.acquire(limit, "k") for _ in range(times)]
    return [result for result in results if not isinstance(result, Decision)]


async def test_no_more_places_are_given_than_there_are(shared: Shared) -> None:
    streams = Concurrency("streams", 3)
    assert len(await take_places(shared, streams, 5)) == 3
    refusal = await shared.leases.acquire(streams, "k")
    assert isinstance(refusal, Decision)
    assert (refusal.allowed, refusal.limit, refusal.remaining) == (False, 3, 0)
    assert refusal.retry_after > 0


async def test_a_place_given_back_can_be_taken_again(shared: Shared) -> None:
    streams = Concurrency("streams", 3)
    places = await take_places(shared, streams, 3)
    places[1].release()
    assert len(await take_places(shared, streams, 3)) == 1


async def test_giving_a_place_back_twice_frees_one(shared: Shared) -> None:
    streams = Concurrency("streams", 3)
    places = await take_places(shared, streams, 3)
    places[0].release()
    places[0].release()
    assert len(await take_places(shared, streams, 3)) == 1


async def test_requests_at_the_same_time_share_the_places(shared: Shared) -> None:
    streams = Concurrency("streams", 7)
    results = await asyncio.gather(*[shared.leases.acquire(streams, "k") for _ in range(50)])
    assert sum(not isinstance(result, Decision) for result in results) == 7


async def test_places_of_subjects_and_limits_are_apart(shared: Shared) -> None:
    one, other = Concurrency("one", 1), Concurrency("other", 1)
    assert not isinstance(await shared.leases.acquire(one, "a"), Decision)
    assert not isinstance(await shared.leases.acquire(one, "b"), Decision)
    assert not isinstance(await shared.leases.acquire(other, "a"), Decision)


async def test_a_place_of_a_client_that_gave_up_is_free(shared: Shared) -> None:
    streams = Concurrency("streams", 2)
    asking = [asyncio.ensure_future(shared.leases.acquire(streams, "k")) for _ in range(2)]
    await asyncio.sleep(0)
    for waiting in asking:
        waiting.cancel()
    results = await asyncio.gather(*asking, return_exceptions=True)
    for place in results:
        if not isinstance(place, BaseException | Decision):
            place.release()
    assert len(await take_places(shared, streams, 3)) == 2


# Deliveries


async def test_a_burst_is_delivered_at_once_and_then_the_rate(shared: Shared, clock: Any) -> None:
    delivery = shared.deliveries.of("k", events=[Rate("e", 100, 1)])
    assert delivery.take(60, 0) == 0.0
    assert delivery.take(40, 0) == 0.0
    assert delivery.take(50, 0) == pytest.approx(0.5)
    clock.tick(0.5)
    assert delivery.take(10, 0) == pytest.approx(0.1)


async def test_who_waits_as_told_gets_exactly_the_rate(shared: Shared, clock: Any) -> None:
    delivery = shared.deliveries.of("k", events=[Rate("e", 100, 1, burst=50)])
    delivered, began = 0, clock.monotonic()
    while clock.monotonic() - began < 60:
        wait = delivery.take(7, 1000)
        delivered += 7
        clock.tick(wait)
    assert delivered == pytest.approx(100 * 60 + 50, abs=14)


async def test_the_limit_that_takes_longest_decides(shared: Shared) -> None:
    delivery = shared.deliveries.of("k", events=[Rate("e", 10, 1)], size=[Rate("b", 1000, 1)])
    assert delivery.take(1, 3000) == pytest.approx(2.0)
    assert delivery.take(59, 0) == pytest.approx(5.0)


async def test_a_daily_quota_of_deliveries_waits_for_midnight(shared: Shared, clock: Any) -> None:
    delivery = shared.deliveries.of("k", events=[Daily("d", 100)])
    left = 86400 - clock.now() % 86400
    assert delivery.take(99, 0) == 0.0
    assert delivery.take(1, 0) == pytest.approx(left)
    clock.tick(left)
    assert delivery.take(1, 0) == 0.0


async def test_streams_of_one_key_share_its_delivery(shared: Shared) -> None:
    limit = Rate("e", 10, 1)
    one = shared.deliveries.of("k", events=[limit])
    other = shared.deliveries.of("k", events=[limit])
    one.take(10, 0)
    assert other.take(10, 0) == pytest.approx(1.0)
    assert shared.deliveries.of("another", events=[limit]).take(10, 0) == 0.0


async def test_room_is_what_fits_now_and_never_nothing(shared: Shared, clock: Any) -> None:
    delivery = shared.deliveries.of("k", events=[Rate("e", 100, 1)])
    assert delivery.room() == 100
    delivery.take(70, 0)
    assert delivery.room() == 30
    delivery.take(70, 0)
    assert delivery.room() == 1
    clock.tick(0.9)
    assert delivery.room() == 50


async def test_room_in_bytes_is_told_apart_from_room_in_events(shared: Shared) -> None:
    delivery = shared.deliveries.of("k", events=[Rate("e", 100, 1)], size=[Rate("b", 1000, 1)])
    assert (delivery.room(), delivery.room_bytes()) == (100, 1000)
    delivery.take(10, 900)
    assert (delivery.room(), delivery.room_bytes()) == (90, 100)
    delivery.take(0, 900)
    assert (delivery.room(), delivery.room_bytes()) == (90, 1)


async def test_a_quota_is_spent_until_midnight_and_a_rate_never_is(
    shared: Shared, clock: Any
) -> None:
    delivery = shared.deliveries.of("k", events=[Rate("e", 1, 1), Daily("d", 100)])
    assert delivery.refusal() is None
    delivery.take(99, 0)
    assert not delivery.spent
    refusal = delivery.refusal()
    assert refusal is not None
    assert (refusal.allowed, refusal.limit, refusal.remaining) == (False, 1, 0)
    assert refusal.retry_after == pytest.approx(98.0)
    delivery.take(1, 0)
    assert delivery.spent
    refusal = delivery.refusal()
    assert refusal is not None
    assert (refusal.limit, refusal.window, refusal.remaining) == (100, 86400, 0)
    assert refusal.retry_after == pytest.approx(delivery.take(0, 0))
    clock.tick(86400 - clock.now() % 86400)
    assert not delivery.spent


async def test_without_limits_there_is_nothing_to_wait_for(shared: Shared) -> None:
    delivery = shared.deliveries.of("k")
    assert delivery.take(10**6, 10**9) == 0.0
    assert min(delivery.room(), delivery.room_bytes()) >= 10**6
    assert not delivery.spent
    assert delivery.refusal() is None


async def test_connecting_anew_is_no_way_around_a_delivery_rate(shared: Shared) -> None:
    limit = Rate("e", 10, 1)
    shared.deliveries.of("k", events=[limit]).take(100, 0)
    gc.collect()
    assert shared.deliveries.of("k", events=[limit]).take(1, 0) == pytest.approx(9.1)


# Usage


async def test_counts_of_a_key_add_up_in_minutes_hours_and_days(shared: Shared, clock: Any) -> None:
    for _ in range(3):
        shared.usage.count("k", requests=1, events=100, size=50_000)
        shared.usage.count("k", streams=1, denials=2)
        await shared.usage.flush()
        clock.tick(60)
    clock.tick(-60)
    minutes = await shared.usage.rows("k", 600, 60)
    assert [row.events for row in minutes] == [0] * 7 + [100] * 3
    for step in (3600, 86400):
        (row,) = await shared.usage.rows("k", step, step)
        assert row == Row(row.start, 3, 3, 300, 150_000, 6)


async def test_counts_are_found_again_in_the_rows_they_belong_to(
    shared: Shared, clock: Any
) -> None:
    counted: dict[int, int] = {}
    for number in range(200):
        counted[int(clock.now() // 60) * 60] = number
        shared.usage.count("k", events=number)
        await shared.usage.flush()
        clock.tick(60)
    clock.tick(-60)
    for step in (60, 300, 900):
        rows = await shared.usage.rows("k", 240 * 60, step)
        for row in rows:
            within = range(row.start, row.start + step, 60)
            assert row.events == sum(counted.get(minute, 0) for minute in within)
        assert sum(row.events for row in rows) == sum(range(200))


async def test_what_was_just_counted_is_in_the_answer(shared: Shared) -> None:
    shared.usage.count("k", requests=1)
    assert (await shared.usage.rows("k", 3600, 60))[-1].requests == 1


async def test_large_counts_are_exact(shared: Shared) -> None:
    for _ in range(3):
        shared.usage.count("k", size=1_234_567_890_123_457)
        await shared.usage.flush()
    (row,) = await shared.usage.rows("k", 86400, 86400)
    assert row.size == 3 * 1_234_567_890_123_457


async def test_keys_are_counted_apart_and_an_unknown_one_has_used_nothing(shared: Shared) -> None:
    shared.usage.count("a", events=1)
    assert sum(row.events for row in await shared.usage.rows("b", 3600, 60)) == 0
    assert sum(row.events for row in await shared.usage.rows("a", 3600, 60)) == 1


async def test_a_window_that_is_not_kept_is_refused(shared: Shared) -> None:
    with pytest.raises(InvalidRequest, match="kept for 60 days"):
        await shared.usage.rows("k", 90 * 86400, 3600)
