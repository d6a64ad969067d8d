"""Two gateways on one database and one Redis: a wake-up is quicker than the next look."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from gateway.adapters.postgres import sequencer as postgres_sequencer
from gateway.runtime.compose import Running, running
from gateway.settings.declarations import RedisSettings, Settings, StoreSettings
from gateway.settings.oversight import AccessLogSettings
from gateway.settings.server import ServerSettings
from gateway.streaming import enforcement, key_freshness
from tests.support.machine_time import Stopwatch, patience
from tests.support.services.valkey import Valkey

POLL_SECONDS = 20.0
EVERYTHING = {"actions": ["stream", "pull", "ingest"], "categories": ["**"]}


@pytest.fixture(scope="module")
def redis() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture
async def pair(
    tmp_path: Path, database: str, redis: Valkey, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Running, Running, str]]:
    """Two gateways that look by themselves every 20 seconds, and the first key."""
    settings = Settings(
        data=tmp_path,
        server=ServerSettings(port=0),
        store=StoreSettings(url=database),
        redis=RedisSettings(url=redis.url),
        record=AccessLogSettings(delay=3600),
    )
    monkeypatch.setattr(postgres_sequencer, "_QUIET_SECONDS", POLL_SECONDS)
    monkeypatch.setattr(postgres_sequencer, "_BUSY_SECONDS", POLL_SECONDS)
    monkeypatch.setattr(enforcement, "_POLL_SECONDS", POLL_SECONDS)
    # Nobody is refused meanwhile because of how long ago that was.
    monkeypatch.setattr(key_freshness, "MOST_SECONDS", 2 * POLL_SECONDS)
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(running(settings)) for _ in range(2)]
        assert first.first_key is not None
        for gateway in (first, second):
            listening = gateway.context.shared.signals.listening  # type: ignore[attr-defined]
            async with asyncio.timeout(patience(10)):
                await listening.wait()
        yield first, second, first.first_key


async def key_of(session: aiohttp.ClientSession, url: str, admin: str) -> str:
    body = {"name": "n", "purpose": "p", "owner": "o", "grants": [EVERYTHING]}
    headers = {"Authorization": f"Bearer {admin}"}
    async with session.post(f"{url}/v1/keys", json=body, headers=headers) as answer:
        assert answer.status == 201, await answer.text()
        key: str = (await answer.json())["key"]
        return key


async def test_events_reach_the_other_gateway_long_before_it_looks_by_itself(
    pair: tuple[Running, Running, str],
) -> None:
    first, second, admin = pair
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {await key_of(session, first.url, admin)}"}
        url = f"{second.url}/v1/stream?category=auth"
        async with session.get(
            url, headers={**headers, "Accept": "application/x-ndjson"}
        ) as stream:
            assert stream.status == 200, await stream.text()
            for n in range(5):
                event = {"id": f"e{n}", "category": "auth", "action": "login"}
                watch = Stopwatch()
                async with session.post(
                    f"{first.url}/v1/events", json=event, headers=headers
                ) as answer:
                    assert answer.status == 201
                async with asyncio.timeout(patience(POLL_SECONDS / 4)):
                    while "type" in (got := json.loads(await stream.content.readline())):
                        pass
                assert got["id"] == f"e{n}"
                assert watch.seconds < 1.0


async def test_a_revocation_reaches_the_other_gateway_long_before_it_looks_by_itself(
    pair: tuple[Running, Running, str],
) -> None:
    first, second, admin = pair
    async with aiohttp.ClientSession() as session:
        key = await key_of(session, first.url, admin)
        socket = await session.ws_connect(
            f"{second.url}/v1/stream", headers={"Authorization": f"Bearer {key}"}
        )
        path = f"{first.url}/v1/keys/{key[5:17]}/revoke"
        async with session.post(path, headers={"Authorization": f"Bearer {admin}"}) as answer:
            assert answer.status == 200
        watch = Stopwatch()
        async with asyncio.timeout(patience(POLL_SECONDS / 4)):
            async for _ in socket:
                pass
        assert socket.close_code == 4501
        assert watch.seconds < 1.0
