"""Several replicas on one Redis: what they hold together, and what it costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway.access.limits.limits import Concurrency, Daily, Decision, Limit, Rate
from gateway.access.limits.ports import Lease, Shared
from gateway.adapters.redis.address import parse_address
from gateway.adapters.redis.leases import RedisLeases
from gateway.adapters.redis.link import Link
from gateway.clock import SystemClock
from tests.contract.sharing import ALWAYS_THERE, StillClock, new_prefix, replicas_of
from tests.support.machine_time import Stopwatch, patience
from tests.support.services.valkey import Valkey

SECONDS, TICK = 1.5, 0.01


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture
async def three(server: Valkey) -> AsyncIterator[list[Shared]]:
    """Three replicas with the server's time."""
    async with AsyncExitStack() as stack:
        opens = replicas_of(server.url, call_seconds=ALWAYS_THERE)
        yield [await stack.enter_async_context(opens(SystemClock())) for _ in range(3)]


@pytest.fixture
async def three_still(server: Valkey) -> AsyncIterator[tuple[StillClock, list[Shared]]]:
    """Three replicas, and the time of all of them."""
    clock = StillClock()
    async with AsyncExitStack() as stack:
        opens = replicas_of(server.url, server_time=False, call_seconds=ALWAYS_THERE)
        yield clock, [await stack.enter_async_context(opens(clock)) for _ in range(3)]


# Limits


RATES = [Rate("r", 40, 1), Rate("r", 400, 1), Rate("r", 300, 1, 100)]


@pytest.mark.parametrize("rate", RATES)
async def test_three_replicas_hold_a_rate_within_5_percent(
    three_still: tuple[StillClock, list[Shared]], rate: Rate
) -> None:
    clock, replicas = three_still
    allowed = 0
    for _ in range(round(SECONDS / TICK)):
        for shared in replicas:
            decisions = await asyncio.gather(*[shared.limits.take(rate, "k") for _ in range(5)])
            allowed += sum(decision.allowed for decision in decisions)
        clock.tick(TICK)
    right = rate.burst + rate.count * SECONDS
    assert 0.95 * right <= allowed <= 1.05 * right


@pytest.mark.parametrize("rate", RATES)
async def test_three_replicas_keep_below_a_rate_by_the_time_of_the_server(
    three: list[Shared], rate: Rate
) -> None:
    allowed = 0
    began = time.monotonic()

    async def press(shared: Shared) -> None:
        nonlocal allowed
        # Beyond the burst, so that what comes after it is seen as well.
        while allowed < 1.2 * rate.burst:
            decisions = await asyncio.gather(*[shared.limits.take(rate, "k") for _ in range(5)])
            allowed += sum(decision.allowed for decision in decisions)
            await asyncio.sleep(0)

    await asyncio.gather(*map(press, three))
    assert allowed <= 1.05 * (rate.burst + rate.count * (time.monotonic() - began))


async def test_three_replicas_share_one_burst(
    three_still: tuple[StillClock, list[Shared]],
) -> None:
    _, replicas = three_still
    rate = Rate("r", 1000, 60)
    allowed = 0
    for _ in range(500):
        for shared in replicas:
            allowed += (await shared.limits.take(rate, "k")).allowed
    # What one has taken ahead the others do not get: at most 1 % each.
    assert 970 <= allowed <= 1000


async def test_three_replicas_share_a_daily_quota_to_the_last_unit(three: list[Shared]) -> None:
    daily = Daily("d", 50)
    results = await asyncio.gather(
        *[shared.limits.take(daily, "k") for _ in range(40) for shared in three]
    )
    assert sum(decision.allowed for decision in results) == 50


async def test_ten_thousand_requests_of_a_blocked_key_cost_no_look_ups(
    server: Valkey, three: list[Shared]
) -> None:
    rate = Rate("r", 5, 3600)
    for shared in three:
        for _ in range(6):
            await shared.limits.take(rate, "k")
    before, watch = server.calls(), Stopwatch()
    for _ in range(10_000):
        for shared in three:
            assert not (await shared.limits.take(rate, "k")).allowed
    assert server.calls() == before
    assert watch.seconds < 5


async def test_a_refusal_is_remembered_only_until_it_can_change(
    server: Valkey, three_still: tuple[StillClock, list[Shared]]
) -> None:
    clock, (one, other, _) = three_still
    rate = Rate("r", 1, 10)
    assert (await one.limits.take(rate, "k")).allowed
    assert not (await other.limits.take(rate, "k")).allowed
    before = server.calls()
    clock.tick(9.9)
    assert not (await other.limits.take(rate, "k")).allowed
    assert server.calls() == before
    clock.tick(0.2)
    assert (await other.limits.take(rate, "k")).allowed
    assert server.calls() == before + 1


async def test_a_busy_key_with_much_left_costs_a_round_trip_in_many_requests(
    server: Valkey, three: list[Shared]
) -> None:
    rate = Rate("r", 100_000, 1)
    shared = three[0]
    await shared.limits.take(rate, "k")
    before = server.calls()
    for _ in range(5000):
        assert (await shared.limits.take(rate, "k")).allowed
    assert server.calls() - before < 5000 / 20


async def test_requests_at_the_same_time_share_round_trips(three: list[Shared]) -> None:
    shared = three[0]
    rate = Rate("r", 1, 60)
    before = shared.health().round_trips
    await asyncio.gather(*[shared.limits.take(rate, f"k{n % 50}") for n in range(1000)])
    assert shared.health().round_trips - before <= 3


async def test_scripts_that_the_server_forgot_are_sent_again(
    server: Valkey, three: list[Shared]
) -> None:
    rate = Rate("r", 100, 1)
    await three[0].limits.take(rate, "k")
    server.command("SCRIPT", "FLUSH")
    decision = await three[0].limits.take(rate, "k")
    assert (decision.allowed, decision.source) == (True, "shared")


# Leases


async def places(shared: Shared, limit: Concurrency, times: int) -> list[Lease]:
    results = await asyncio.gather(*[shared.leases.acquire(limit, "k") for _ in range(times)])
    return [result for result in results if not isinstance(result, Decision)]


async def test_three_replicas_never_give_more_places_than_there_are(three: list[Shared]) -> None:
    streams = Concurrency("streams", 10)
    given = await asyncio.gather(*[places(shared, streams, 20) for shared in three])
    assert sum(map(len, given)) == 10


async def test_a_place_given_back_is_free_for_other_replicas_at_once(three: list[Shared]) -> None:
    streams = Concurrency("streams", 1)
    (place,) = await places(three[0], streams, 1)
    assert await places(three[1], streams, 1) == []
    place.release()
    for _ in range(100):
        if await places(three[1], streams, 1):
            return
        await asyncio.sleep(0.01)
    pytest.fail("the place was not free within a second")


async def test_places_of_a_replica_that_ends_are_free_at_once(server: Valkey) -> None:
    streams = Concurrency("streams", 3)
    opens = replicas_of(server.url)
    async with opens(SystemClock()) as one:
        assert len(await places(one, streams, 3)) == 3
    async with opens(SystemClock()) as other:
        assert len(await places(other, streams, 3)) == 3


async def test_places_of_a_replica_that_crashed_are_free_after_their_lease(
    server: Valkey,
) -> None:
    clock, prefix, streams = StillClock(), new_prefix(), Concurrency("streams", 3)
    links = [Link(parse_address(server.url), clock, prefix) for _ in range(2)]
    assert all([await link.probe() for link in links])
    crashed, alive = (
        RedisLeases(link, clock, server_time=False, lease_seconds=10.0) for link in links
    )
    for _ in range(2):
        assert not isinstance(await crashed.acquire(streams, "k"), Decision)
    assert not isinstance(await alive.acquire(streams, "k"), Decision)
    for _ in range(3):
        clock.tick(3.0)
        # Only one of them still renews.
        await alive.renew()
        assert isinstance(await alive.acquire(streams, "k"), Decision)
    clock.tick(1.1)
    for _ in range(2):
        assert not isinstance(await alive.acquire(streams, "k"), Decision)
    assert isinstance(await alive.acquire(streams, "k"), Decision)
    for link in links:
        await link.close()


# Deliveries


async def test_three_replicas_deliver_at_one_rate_within_5_percent(
    three_still: tuple[StillClock, list[Shared]],
) -> None:
    clock, replicas = three_still
    limit = Rate("e", 1000, 1)
    deliveries: list[Any] = [shared.deliveries.of("k", events=[limit]) for shared in replicas]
    next_at = [0.0, 0.0, 0.0]
    delivered, seconds = 0, 20
    for _ in range(seconds * 20):
        for place, delivery in enumerate(deliveries):
            while next_at[place] <= clock.monotonic():
                delivered += 20
                next_at[place] = clock.monotonic() + delivery.take(20, 4000)
        for shared in replicas:
            syncing: Any = shared.deliveries
            await syncing.sync()
        clock.tick(0.05)
    assert delivered == pytest.approx(limit.burst + limit.count * seconds, rel=0.05)


async def test_a_stream_that_moves_to_another_replica_keeps_its_debt(
    three_still: tuple[StillClock, list[Shared]],
) -> None:
    _, (one, other, _) = three_still
    limits: list[Limit] = [Rate("e", 10, 1), Daily("day", 1000)]
    one.deliveries.of("k", events=limits).take(100, 0)
    syncing: Any = one.deliveries
    await syncing.sync()
    arrived = other.deliveries.of("k", events=limits)
    syncing = other.deliveries
    await syncing.sync()
    assert arrived.take(1, 0) == pytest.approx(9.1)


async def test_what_is_delivered_while_replicas_are_told_is_not_forgotten(
    three_still: tuple[StillClock, list[Shared]],
) -> None:
    _, (one, _, _) = three_still
    delivery = one.deliveries.of("k", events=[Rate("e", 10, 1, burst=100)])
    syncing: Any = one.deliveries
    await syncing.sync()
    delivery.take(100, 0)
    # The round is under way; its answer will know the first 100 only.
    for _ in range(3):
        await asyncio.sleep(0)
    assert delivery.take(3, 0) == pytest.approx(0.3)
    await syncing._rounds.settled()
    assert delivery.take(0, 0) == pytest.approx(0.3)
    await syncing.sync()
    assert delivery.take(0, 0) == pytest.approx(0.3)


# Usage


async def test_three_replicas_count_into_the_same_rows(three: list[Shared]) -> None:
    for shared in three:
        shared.usage.count("k", requests=1, events=10)
        assert await shared.usage.flush()
    for shared in three:
        (row,) = await shared.usage.rows("k", 86400, 86400)
        assert (row.requests, row.events) == (3, 30)


async def test_counts_of_many_events_are_few_calls(server: Valkey, three: list[Shared]) -> None:
    before = server.calls()
    for n in range(30_000):
        three[0].usage.count(f"k{n % 3}", events=1, size=500)
    await three[0].usage.flush()
    # The flush in the background may have taken a part of them.
    assert server.calls() - before <= 2


# Signals


async def test_a_wake_up_reaches_the_other_replicas_and_not_its_sender(
    three: list[Shared],
) -> None:
    heard: list[str] = []
    woken = asyncio.Event()
    for number, shared in enumerate(three):
        signals: Any = shared.signals
        await asyncio.wait_for(signals.listening.wait(), patience(5))

        def wake(number: int = number) -> None:
            heard.append(f"appended at {number}")
            if len(heard) == 2:
                woken.set()

        shared.signals.listen("appended", wake)
        shared.signals.listen("keys", lambda: heard.append("keys"))
    three[0].signals.send("appended")
    await asyncio.wait_for(woken.wait(), patience(5))
    assert sorted(heard) == ["appended at 1", "appended at 2"]


async def test_many_wake_ups_at_once_go_out_as_few(server: Valkey, three: list[Shared]) -> None:
    before = server.calls("publish")
    woken = asyncio.Event()
    signals: Any = three[1].signals
    await asyncio.wait_for(signals.listening.wait(), patience(5))
    three[1].signals.listen("appended", woken.set)
    for _ in range(1000):
        three[0].signals.send("appended")
    await asyncio.wait_for(woken.wait(), patience(5))
    assert server.calls("publish") - before <= 2
