"""Redis that dies, stalls, refuses, or was never there: nobody waits, nothing is counted twice."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.access.limits.limits import Concurrency, Daily, Decision, Rate
from gateway.access.limits.ports import Shared
from gateway.clock import SystemClock
from gateway.errors import Unavailable
from tests.contract.sharing import new_prefix, replicas_of
from tests.support.machine_time import Stopwatch, patience
from tests.support.services.valkey import Valkey

_ROOT = Path(__file__).parents[2]
# What a decision may take on a busy machine while Redis is known to be away, and
# what the first ones take that find it out.
QUICK = 0.05
FIRST = 0.3
RATE = Rate("r", 50, 1)
CLOSED = Rate("closed", 50, 1, when_down="closed")


@pytest.fixture
def server() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture
def black_hole() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}"


async def until_up(shared: Shared, up: bool = True) -> None:
    async with asyncio.timeout(patience(10)):
        while shared.health().up is not up:  # noqa: ASYNC110 - health is a figure to look at
            await asyncio.sleep(0.01)


async def timed(shared: Shared, limit: Rate | Daily = RATE) -> tuple[Decision, float]:
    watch = Stopwatch()
    decision = await shared.limits.take(limit, "k")
    return decision, watch.seconds


async def test_three_replicas_go_on_while_the_server_is_killed_and_started_again(
    server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    opens = replicas_of(server.url)
    slowest, counted, sources = 0.0, 0, set()

    async with opens(SystemClock()) as one, opens(SystemClock()) as two, opens(
        SystemClock()
    ) as three:  # fmt: skip
        replicas = (one, two, three)

        async def work_for(seconds: float) -> None:
            nonlocal slowest, counted
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                for shared in replicas:
                    decision, took = await timed(shared)
                    slowest = max(slowest, took)
                    sources.add(decision.source)
                    shared.usage.count("k", requests=1)
                    counted += 1
                await asyncio.sleep(0.005)

        await work_for(0.7)
        server.kill()
        await work_for(0.7)
        assert not any(shared.health().up for shared in replicas)
        server.start()
        await work_for(0.7)
        for shared in replicas:
            await until_up(shared)
            health = shared.health()
            assert health.outages == 1
            assert health.local_decisions > 0
        await work_for(0.7)
        assert (await timed(one, Rate("another", 5)))[0].source == "shared"

    assert slowest < FIRST
    assert sources == {"shared", "local"}
    async with opens(SystemClock()) as after:
        (row,) = await after.usage.rows("k", 86400, 86400)
        assert row.requests == counted
    said = [record for record in caplog.records if record.name == "gateway.adapters.redis.link"]
    assert [record.levelname for record in said].count("ERROR") == 3
    assert [record.levelname for record in said].count("WARNING") == 3


# Holds a place, counts an event each 5 ms and says so, until it is killed.
_REPLICA = """
import asyncio, sys
from gateway.clock import SystemClock
from gateway.access.limits.limits import Concurrency
from tests.contract.sharing import new_prefix, replicas_of

async def main():
    opens = replicas_of(sys.argv[1], prefix=sys.argv[2], lease_seconds=1.0)
    async with opens(SystemClock()) as shared:
        await shared.leases.acquire(Concurrency("streams", 1), "k")
        while True:
            shared.usage.count("k", events=1)
            print(flush=True)
            await asyncio.sleep(0.005)

asyncio.run(main())
"""


async def test_a_replica_killed_loses_a_second_of_counts_at_most_and_its_places(
    server: Valkey,
) -> None:
    prefix, streams = new_prefix(), Concurrency("streams", 1)
    replica = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _REPLICA, server.url, prefix,
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )  # fmt: skip
    counted: list[float] = []
    try:
        assert replica.stdout is not None
        while not counted or counted[-1] - counted[0] < 1.7:
            assert await asyncio.wait_for(replica.stdout.readline(), patience(20))
            counted.append(time.monotonic())
    finally:
        replica.kill()
        await replica.communicate()
    opens = replicas_of(server.url, prefix=prefix, lease_seconds=1.0)
    async with opens(SystemClock()) as shared:
        assert isinstance(await shared.leases.acquire(streams, "k"), Decision)
        (row,) = await shared.usage.rows("k", 86400, 86400)
        a_second_before = sum(moment < counted[-1] - 1.0 for moment in counted)
        assert a_second_before > 50
        assert row.events >= a_second_before
        for _ in range(100):
            await asyncio.sleep(0.05)
            if not isinstance(await shared.leases.acquire(streams, "k"), Decision):
                return
    pytest.fail("the place was not free when its lease was over")


async def test_by_policy_a_limit_goes_on_alone_or_refuses_everything(server: Valkey) -> None:
    async with replicas_of(server.url)(SystemClock()) as shared:
        slow = Rate("slow", 10, 3600)
        for _ in range(4):
            await shared.limits.take(slow, "k")
        server.kill()
        await shared.limits.take(RATE, "k")
        assert not shared.health().up
        alone = [await shared.limits.take(slow, "k") for _ in range(10)]
        # It goes on from what was known of the shared standing.
        assert [decision.allowed for decision in alone] == [True] * 6 + [False] * 4
        assert {decision.source for decision in alone} == {"local"}
        refusal = await shared.limits.take(CLOSED, "k")
        assert (refusal.allowed, refusal.source) == (False, "closed")
        streams = Concurrency("streams", 2)
        held = [await shared.leases.acquire(streams, "k") for _ in range(3)]
        assert [isinstance(lease, Decision) for lease in held] == [False, False, True]
        strict = await shared.leases.acquire(Concurrency("few", 2, when_down="closed"), "k")
        assert isinstance(strict, Decision)
        assert strict.source == "closed"
        assert shared.health().closed_decisions == 2


async def test_a_frozen_server_slows_the_first_requests_only(server: Valkey) -> None:
    async with replicas_of(server.url)(SystemClock()) as shared:
        await shared.limits.take(RATE, "k")
        server.freeze()
        watch = Stopwatch()
        first = await asyncio.gather(*[shared.limits.take(RATE, f"k{n}") for n in range(300)])
        assert watch.seconds < FIRST
        assert all(decision.allowed for decision in first)
        watch = Stopwatch()
        for n in range(300):
            await shared.limits.take(RATE, f"k{n}")
            shared.usage.count("k", events=1)
            shared.deliveries.of("k", events=[RATE]).take(1, 100)
        assert watch.seconds < QUICK * 4
        assert await shared.usage.flush() is False
        server.thaw()
        await until_up(shared)
        assert await shared.usage.flush() is True
        assert (await shared.usage.rows("k", 86400, 86400))[0].events == 300


async def test_a_busy_event_loop_is_not_taken_for_an_outage(server: Valkey) -> None:
    async def be_busy() -> None:
        while True:
            # Most of what a call may take, in every turn of the loop; a call needs a few.
            time.sleep(0.06)  # noqa: ASYNC251
            await asyncio.sleep(0)

    async with replicas_of(server.url)(SystemClock()) as shared:
        busy = asyncio.create_task(be_busy())
        for n in range(5):
            assert (await shared.limits.take(RATE, f"k{n}")).source == "shared"
        busy.cancel()
        asking = asyncio.ensure_future(shared.limits.take(RATE, "k"))
        for _ in range(10):
            await asyncio.sleep(0)
        # Longer than a call may take; the answer is there when the loop looks again.
        time.sleep(0.25)  # noqa: ASYNC251
        assert (await asking).source == "shared"
        assert shared.health().outages == 0


async def test_with_a_black_hole_for_a_server_starting_and_deciding_is_not_slow(
    black_hole: str,
) -> None:
    watch = Stopwatch()
    async with replicas_of(black_hole)(SystemClock()) as shared:
        assert watch.seconds < 2
        slowest = 0.0
        for _ in range(200):
            decision, took = await timed(shared)
            slowest = max(slowest, took)
            assert decision.source == "local"
            lease = await shared.leases.acquire(Concurrency("streams", 500), "k")
            assert not isinstance(lease, Decision)
            shared.signals.send("appended")
            await asyncio.sleep(0.005)
        assert slowest < QUICK
        with pytest.raises(Unavailable):
            await shared.usage.rows("k", 3600, 60)
        watch = Stopwatch()
    assert watch.seconds < 3


async def test_a_server_that_comes_later_is_found(server: Valkey) -> None:
    server.kill()
    async with replicas_of(server.url)(SystemClock()) as shared:
        assert (await shared.limits.take(RATE, "k")).source == "local"
        server.start()
        await until_up(shared)
        assert (await shared.limits.take(RATE, "k")).source == "shared"


async def test_a_server_that_may_not_be_written_to_counts_as_down(server: Valkey) -> None:
    async with replicas_of(server.url)(SystemClock()) as shared:
        server.command("REPLICAOF", "127.0.0.1", 1)
        assert (await shared.limits.take(RATE, "k")).source == "local"
        await asyncio.sleep(0.3)
        assert not shared.health().up
        assert shared.health().outages == 1
        server.command("REPLICAOF", "NO", "ONE")
        await until_up(shared)


async def test_a_wrong_password_is_said_without_repeating_it(
    server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    server.command("CONFIG", "SET", "requirepass", "right")
    wrong, right = (
        server.url.replace("redis://", f"redis://:{password}@") for password in ("hunter2", "right")
    )
    async with replicas_of(wrong)(SystemClock()) as shared:
        assert (await shared.limits.take(RATE, "k")).source == "local"
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "password" in said
    assert "hunter2" not in said
    async with replicas_of(right)(SystemClock()) as shared:
        assert (await shared.limits.take(RATE, "k")).source == "shared"


async def test_places_held_through_an_outage_are_known_again_after_it(server: Valkey) -> None:
    """Also to a server that has forgotten everything."""
    streams = Concurrency("streams", 3)
    opens = replicas_of(server.url)
    async with opens(SystemClock()) as one, opens(SystemClock()) as other:
        for shared in (one, one, other):
            assert not isinstance(await shared.leases.acquire(streams, "k"), Decision)
        server.kill()
        for shared in (one, other):
            await shared.limits.take(RATE, "k")
            await until_up(shared, False)
        for file in server.folder.glob("appendonlydir/*"):
            file.unlink()
        server.start()
        for shared in (one, other):
            await until_up(shared)
        assert isinstance(await other.leases.acquire(streams, "k"), Decision)


async def test_what_was_delivered_in_an_outage_is_charged_after_it(server: Valkey) -> None:
    rate = Rate("e", 1, 1, burst=10)
    opens = replicas_of(server.url)
    async with opens(SystemClock()) as one, opens(SystemClock()) as other:
        delivery = one.deliveries.of("k", events=[rate])
        server.kill()
        assert delivery.take(40, 0) == pytest.approx(30, abs=1)
        await until_up(one, False)
        assert delivery.take(30, 0) == pytest.approx(60, abs=3)
        server.start()
        for shared in (one, other):
            await until_up(shared)
        arrived = other.deliveries.of("k", events=[rate])
        for _ in range(100):
            await asyncio.sleep(0.02)
            if arrived.take(0, 0) > 0:
                break
        assert arrived.take(0, 0) == pytest.approx(60, abs=5)


async def test_wake_ups_are_heard_again_after_an_outage_and_one_is_made_up(
    server: Valkey,
) -> None:
    opens = replicas_of(server.url)
    async with opens(SystemClock()) as one, opens(SystemClock()) as other:
        woken = asyncio.Event()
        other.signals.listen("keys", woken.set)
        await asyncio.wait_for(woken.wait(), patience(5))
        server.kill()
        await until_up_after(one, server)
        woken.clear()
        # Whatever was missed, the listener looks once when it is connected again.
        await asyncio.wait_for(woken.wait(), patience(5))
        await asyncio.sleep(0.05)
        woken.clear()
        one.signals.send("keys")
        await asyncio.wait_for(woken.wait(), patience(5))


async def until_up_after(shared: Shared, server: Valkey) -> None:
    """Notice the outage, end it, and wait until the replica has noticed that too."""
    await shared.limits.take(RATE, "k")
    await until_up(shared, False)
    server.start()
    await until_up(shared)
