"""Redis goes away while limits are in force: each says what happens then, and all recover."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from gateway_client import with_checksum
from gateways import Gateway, Start
from open_streams import Refused, open_stream

from tests.support.machine_time import eventually, patience
from tests.support.services.valkey import Valkey

READ = {"actions": ["stream", "pull"], "categories": ["**"]}
STRANGER = with_checksum("alpk_" + "A" * 12 + "_" + "B" * 43)


@pytest.fixture
def redis() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


async def goes_down(gateway: Gateway, redis: Valkey) -> None:
    """Kill it, and let the counting of uses find out."""
    redis.kill()
    async with asyncio.timeout(patience(5)):
        while gateway.context.shared.health().up:
            await gateway.get("/v1/events")


async def comes_back(gateway: Gateway, redis: Valkey) -> None:
    redis.start()
    await eventually(lambda: gateway.context.shared.health().up, "Redis is back", 10)


async def test_limits_go_on_in_each_process_and_it_is_counted_and_alarmed(
    start: Start, redis: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    gateway = await start(redis={"url": redis.url})
    limits = {"requests_per_second": 1, "requests_burst": 3, "concurrent_streams": 1}
    key = await gateway.mint(READ, limits=limits)
    await gateway.get("/v1/events", key=key)
    assert await gateway.metric("redis_up") == 1
    await goes_down(gateway, redis)
    assert await gateway.reasons() == {"redis_away"}
    # A busy machine may let some more through in the meantime.
    statuses = [(await gateway.get("/v1/events", key=key)).status]
    while statuses[-1] == 200 and len(statuses) < 50:
        statuses.append((await gateway.get("/v1/events", key=key)).status)
    assert set(statuses) == {200, 429}
    other = await gateway.mint(READ, limits={"concurrent_streams": 1})
    stream = await open_stream(gateway, "sse", other)
    with pytest.raises(Refused) as refused:
        await open_stream(gateway, "sse", other)
    refused.value.answer.problem(429, "too_many_streams")
    assert await gateway.metric("redis_up") == 0
    assert await gateway.metric("redis_outages_total") == 1
    assert await gateway.metric("limits_decided_alone_total") >= len(statuses)
    alarms = [record for record in caplog.records if "is away" in record.getMessage()]
    assert len(alarms) == 1

    await comes_back(gateway, redis)
    assert await gateway.reasons() == set()
    assert await gateway.metric("redis_up") == 1
    # What was given meanwhile is known to Redis again.
    with pytest.raises(Refused):
        await open_stream(gateway, "sse", other)
    stream.close()


async def test_what_is_closed_without_redis_answers_503_until_it_is_back(
    start: Start, redis: Valkey
) -> None:
    gateway = await start(
        redis={"url": redis.url},
        limits={
            "address_failures_per_minute": 100,
            "closed_without_redis": ("requests", "streams", "failures"),
        },
    )
    limited = await gateway.mint(READ, limits={"requests_per_second": 100})
    places = await gateway.mint(READ, limits={"concurrent_streams": 5})
    assert (await gateway.get("/v1/events", key=limited)).status == 200
    await goes_down(gateway, redis)
    for key in (limited, STRANGER):
        answer = await gateway.get("/v1/events", key=key)
        answer.problem(503, "limits_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert "RateLimit-Limit" not in answer.headers
    with pytest.raises(Refused) as refused:
        await open_stream(gateway, "sse", places)
    refused.value.answer.problem(503, "limits_unavailable")
    assert "Ratelimit-Limit" not in refused.value.answer.headers
    assert (await gateway.get("/v1/events")).status == 200, "a key without limits is not asked for"
    assert await gateway.metric("limits_closed_total") >= 3
    await comes_back(gateway, redis)
    assert (await gateway.get("/v1/events", key=limited)).status == 200
    await open_stream(gateway, "sse", places)


async def test_paced_streams_go_on_while_redis_is_away(start: Start, redis: Valkey) -> None:
    gateway = await start(redis={"url": redis.url})
    key = await gateway.mint(READ, limits={"events_per_second": 100})
    stream = await open_stream(gateway, "ndjson", key)
    await gateway.send_many(150)
    seen: list[dict[str, Any]] = await stream.take(50)
    await goes_down(gateway, redis)
    await gateway.send_many(100)
    seen += await stream.take(100)
    await comes_back(gateway, redis)
    seen += await stream.take(100)
    assert [one["data"]["n"] for one in seen] == [*range(150), *range(100)]
