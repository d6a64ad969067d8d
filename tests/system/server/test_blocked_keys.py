"""A flood of requests with a key that is blocked costs no look-ups, here or at Redis."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from gateway_client import key_id, with_checksum
from gateways import Gateway, Start

from tests.support.examples import examples
from tests.support.machine_time import patience
from tests.support.services.valkey import Valkey

READ = {"actions": ["pull"], "categories": ["**"]}
REQUESTS = examples(10_000, share=10)
AT_ONCE = 250
CONNECTIONS = 4


@pytest.fixture
def redis() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture(params=["alone", "redis"])
async def started(request: pytest.FixtureRequest, start: Start) -> Gateway:
    settings: dict[str, Any] = {"limits": {"address_failures_per_minute": 30}}
    if request.param == "redis":
        settings["redis"] = {"url": request.getfixturevalue("redis").url}
    return await start(**settings)


async def flood(gateway: Gateway, key: str, count: int) -> Counter[int]:
    """That many requests on few connections; the statuses of the answers."""
    statuses: Counter[int] = Counter()
    request = (
        f"GET /v1/events HTTP/1.1\r\nHost: {gateway.host}:{gateway.port}\r\n"
        f"Authorization: Bearer {key}\r\n\r\n"
    ).encode()

    async def part(count: int) -> None:
        reader, writer = await gateway.connect()
        for start in range(0, count, AT_ONCE):
            some = min(AT_ONCE, count - start)
            writer.write(request * some)
            for _ in range(some):
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
                await reader.readexactly(int(length))
                statuses[int(head.split()[1])] += 1
        writer.close()

    async with asyncio.timeout(patience(100)):
        await asyncio.gather(*(part(count // CONNECTIONS) for _ in range(CONNECTIONS)))
    return statuses


def counted(store: Any, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the calls of the key store from here on."""
    calls: Counter[str] = Counter()

    def count(name: str, method: Any) -> Any:
        async def counting(*arguments: Any, **named: Any) -> Any:
            calls[name] += 1
            return await method(*arguments, **named)

        return counting

    for name in dir(store):
        method = getattr(store, name)
        if not name.startswith("_") and asyncio.iscoroutinefunction(method):
            monkeypatch.setattr(store, name, count(name, method))
    return calls


async def over_its_limit(gateway: Gateway) -> tuple[str, int]:
    key = await gateway.mint(READ, limits={"requests_per_second": 1, "requests_burst": 1})
    for _ in range(3):
        await gateway.get("/v1/events", key=key)
    return key, 429


async def revoked(gateway: Gateway) -> tuple[str, int]:
    key = await gateway.mint(READ, limits={"requests_per_second": 10_000})
    await gateway.get("/v1/events", key=key)
    await gateway.revoke(key)
    return key, 401


async def suspended(gateway: Gateway) -> tuple[str, int]:
    key = await gateway.mint(READ, limits={"requests_per_second": 10_000})
    await gateway.get("/v1/events", key=key)
    await gateway.post(f"/v1/keys/{key_id(key)}/suspend", key=gateway.admin)
    return key, 401


async def junk(gateway: Gateway) -> tuple[str, int]:
    key = "alpk_" + "x" * 66
    while (await gateway.get("/v1/events", key=key)).status == 401:
        pass
    return key, 429


async def unknown(gateway: Gateway) -> tuple[str, int]:
    key = with_checksum("alpk_" + "A" * 12 + "_" + "B" * 43)
    while (await gateway.get("/v1/events", key=key)).status == 401:
        pass
    return key, 429


async def wrong_secret(gateway: Gateway) -> tuple[str, int]:
    key = with_checksum(gateway.user[:18] + "B" * 43)
    while (await gateway.get("/v1/events", key=key)).status == 401:
        pass
    return key, 429


@pytest.mark.parametrize("block", [over_its_limit, revoked, suspended, junk, unknown, wrong_secret])
async def test_a_flood_of_requests_of_a_blocked_key_costs_no_look_ups(
    started: Gateway, block: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, status = await block(started)
    context = started.context
    made = len(await context.key_store.all())
    # What looks at keys that have changed does so whenever it is ready.
    await context.enforcement.poll()
    await context.detector.poll()
    calls = counted(context.key_store, monkeypatch)
    began, trips = time.monotonic(), context.shared.health().round_trips
    statuses = await flood(started, key, REQUESTS)
    took = time.monotonic() - began
    assert sum(statuses.values()) == REQUESTS
    # Once a second or less the limit lets one through again, and takes it back.
    let_through = REQUESTS - statuses[status]
    assert let_through <= 1.5 * took + 2
    asked = let_through if block in (unknown, wrong_secret) else 0
    # The watch looks once at each key that has just been made or changed, and the findings about
    # the flood a few times, however many requests there are.
    assert calls["get"] <= asked + made + 10
    # What runs on its own: the watch over keys, and the notes of what was used.
    assert sum(calls.values()) <= 20 * took + 20, calls
    # Counts go out twice a second, whatever their number; a request that may pass is asked for.
    assert context.shared.health().round_trips - trips <= 5 * took + 5 + 2 * let_through
