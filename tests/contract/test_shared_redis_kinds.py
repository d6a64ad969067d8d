"""Redis Cluster and Sentinel: real ones, of three servers each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from gateway.access.limits.limits import Concurrency, Daily, Decision, Rate
from gateway.access.limits.ports import Shared
from gateway.clock import SystemClock
from tests.contract.sharing import replicas_of
from tests.support.machine_time import patience
from tests.support.services.valkey import Valkey

# Clusters and Sentinels take seconds to agree.
pytestmark = pytest.mark.slow

_SLOTS = 16384
_READY_SECONDS = 15


def start_cluster(stack: ExitStack) -> list[Valkey]:
    """Three servers that share the slots."""
    options = (("cluster-enabled", "yes"), ("cluster-node-timeout", "1000"))
    nodes = [stack.enter_context(Valkey(*options)) for _ in range(3)]
    for number, node in enumerate(nodes):
        first, last = number * _SLOTS // 3, (number + 1) * _SLOTS // 3 - 1
        node.command("CLUSTER", "ADDSLOTSRANGE", first, last)
        node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        node.command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
    _wait(lambda: all("cluster_state:ok" in node.command("CLUSTER", "INFO") for node in nodes))
    return nodes


def address_of(nodes: list[Valkey]) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)


@pytest.fixture
def sentinel() -> Iterator[tuple[str, Valkey, Valkey]]:
    """The address of a service, its master and its replica."""
    with Valkey() as master, Valkey(("replicaof", f"127.0.0.1 {master.port}")) as replica:
        _wait(lambda: "master_link_status:up" in replica.command("INFO", "replication"))
        configuration = (
            f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds main 300\n"
            "sentinel failover-timeout main 2000\n"
        )
        with Valkey(sentinel=configuration) as watching:
            _wait(lambda: "slave0" in master.command("INFO", "replication"))
            _wait(lambda: str(replica.port) in watching.command("SENTINEL", "replicas", "main"))
            yield f"redis+sentinel://127.0.0.1:{watching.port}/main", master, replica


def _wait(ready: Any) -> None:
    deadline = time.monotonic() + patience(_READY_SECONDS)
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def up_again(shared: Shared) -> None:
    async with asyncio.timeout(patience(_READY_SECONDS)):
        while not shared.health().up:  # noqa: ASYNC110 - health is a figure to look at
            await asyncio.sleep(0.02)


async def everything_is_shared(one: Shared, other: Shared) -> None:
    """Each of the ports, for enough subjects that every server of a cluster has some."""
    subjects = [f"key{n}" for n in range(40)]
    for limit in (Rate("r", 3, 3600), Daily("d", 3)):
        results = await asyncio.gather(
            *[shared.limits.take(limit, subject) for subject in subjects for shared in (one, other)
              for _ in range(3)]
        )  # fmt: skip
        assert {decision.source for decision in results} == {"shared"}
        assert sum(decision.allowed for decision in results) == 3 * len(subjects)
    for subject in subjects:
        held = [
            await shared.leases.acquire(Concurrency("streams", 1), subject)
            for shared in (one, other)
        ]
        assert [isinstance(lease, Decision) for lease in held] == [False, True]
        one.usage.count(subject, events=7)
        one.deliveries.of(subject, events=[Rate("e", 1, 1)]).take(10, 0)
    assert await one.usage.flush()
    syncing: Any = one.deliveries
    await syncing.sync()
    for subject in subjects:
        assert (await other.usage.rows(subject, 86400, 86400))[0].events == 7
        delivery = other.deliveries.of(subject, events=[Rate("e", 1, 1)])
        syncing = other.deliveries
        await syncing.sync()
        assert delivery.take(0, 0) > 5
    woken = asyncio.Event()
    signals: Any = other.signals
    await asyncio.wait_for(signals.listening.wait(), patience(5))
    other.signals.listen("keys", woken.set)
    one.signals.send("keys")
    await asyncio.wait_for(woken.wait(), patience(5))


async def test_sentinel_shares_everything_and_a_failover_is_followed(
    sentinel: tuple[str, Valkey, Valkey],
) -> None:
    url, master, replica = sentinel
    opens = replicas_of(url)
    async with opens(SystemClock()) as one, opens(SystemClock()) as other:
        await everything_is_shared(one, other)
        master.kill()
        assert (await one.limits.take(Rate("later", 1, 60), "k")).source == "local"
        await up_again(one)
        assert "role:master" in replica.command("INFO", "replication")
        assert (await one.limits.take(Rate("later", 1, 60), "k2")).source == "shared"
        assert (await one.usage.rows("key1", 86400, 86400))[0].events == 7


async def test_a_cluster_shares_everything_and_counts_as_down_without_one_of_its_servers() -> None:
    with ExitStack() as stack:
        nodes = start_cluster(stack)
        opens = replicas_of(address_of(nodes))
        async with opens(SystemClock()) as one, opens(SystemClock()) as other:
            await everything_is_shared(one, other)
        async with opens(SystemClock()) as shared:
            rates = [Rate(f"r{n}", 1, 60) for n in range(30)]
            assert {(await shared.limits.take(rate, rate.name)).source for rate in rates} == {
                "shared"
            }
            nodes[1].kill()
            for rate in rates:
                await shared.limits.take(rate, f"again {rate.name}")
            assert not shared.health().up
            await asyncio.sleep(0.5)
            assert shared.health().outages == 1
            nodes[1].start()
            await up_again(shared)
            assert (await shared.limits.take(Rate("later", 1), "k")).source == "shared"
