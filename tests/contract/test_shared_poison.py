"""Values at the Redis server that no gateway has written count as nothing, for one subject."""

from __future__ import annotations

import pytest

from gateway.access.limits.limits import Concurrency, Daily, Decision, Rate
from gateway.access.limits.ports import Shared
from gateway.clock import SystemClock
from tests.contract.sharing import new_prefix, replicas_of
from tests.support.services.valkey import Valkey

RATE = Rate("r", 50, 1)
DAILY = Daily("d", 1000)
STREAMS = Concurrency("c", 10)
# What may stand under any name: by the command that puts it there, behind the name.
POISONS: list[tuple[str, ...]] = [
    ("SET", "junk"), ("SET", ""), ("SET", "nan nan"), ("SET", "-5 -5"), ("SET", "1e400 1e400"),
    ("RPUSH", "a", "b"), ("SADD", "a"), ("ZADD", "1", "a"), ("HSET", "a", "junk", "1", "x y"),
]  # fmt: skip


async def use_everything(shared: Shared, subject: str) -> None:
    """What a gateway does at the server for one key; it must be answered by the server."""
    assert (await shared.limits.take(RATE, subject)).allowed
    assert (await shared.limits.take(DAILY, subject)).allowed
    delivery = shared.deliveries.of(subject, events=[Rate("e", 50, 1)])
    delivery.take(1, 100)
    place = await shared.leases.acquire(STREAMS, subject)
    assert not isinstance(place, Decision)
    shared.usage.count(subject, requests=1)
    assert await shared.usage.flush()
    await shared.usage.rows(subject, 3600, 60)


@pytest.mark.parametrize("poison", POISONS, ids=" ".join)
async def test_a_value_that_is_none_of_ours_takes_redis_from_nobody(
    poison: tuple[str, ...],
) -> None:
    with Valkey() as server:
        prefix = new_prefix()
        async with replicas_of(server.url, prefix=prefix)(SystemClock()) as shared:
            await use_everything(shared, "k")
            names = [
                name for name in server.command("KEYS", f"{prefix}:*").split() if "{k}" in name
            ]
            assert len(names) >= 5, names
            for name in names:
                server.command("DEL", name)
                server.command(poison[0], name, *poison[1:])
        async with replicas_of(server.url, prefix=prefix)(SystemClock()) as shared:
            await use_everything(shared, "k")
            await use_everything(shared, "other")
            health = shared.health()
            assert health.up
            assert (health.outages, health.failed_calls, health.local_decisions) == (0, 0, 0)
