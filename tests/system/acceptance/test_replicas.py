"""Two gateways on one PostgreSQL: any takes events, any gives them, in one order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import aiohttp
import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import Stopwatch, becomes, patience
from tests.support.services.postgres import PostgresServer, installations
from tests.support.services.valkey import Valkey

pytestmark = pytest.mark.slow
EVERYTHING = {"actions": ["stream", "pull", "ingest"], "categories": ["**"]}
NDJSON = {"Accept": "application/x-ndjson"}
Replicas = tuple[GatewayProcess, GatewayProcess]


@pytest.fixture(scope="module", params=installations())
def replicas(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Replicas]:
    """Shared by all tests, each of which has a category of its own."""
    folder = tmp_path_factory.mktemp("replicas")
    with ExitStack() as stack:
        database = PostgresServer(installations()[request.param])
        stack.callback(database.close)
        redis = stack.enter_context(Valkey())
        settings = {
            "AUDIT_GATEWAY_STORE__URL": database.url(),
            "AUDIT_GATEWAY_REDIS__URL": f"redis://127.0.0.1:{redis.port}/0",
        }
        first = stack.enter_context(GatewayProcess(folder, settings=settings, shows_key=True))
        second = stack.enter_context(GatewayProcess(folder, settings=settings, shows_key=False))
        yield first, second


def events(category: str, first: int, count: int) -> list[dict[str, Any]]:
    numbers = range(first, first + count)
    return [{"id": f"{category}{n}", "category": category, "action": "login"} for n in numbers]


async def lines(url: str, key: str, query: str, count: int) -> list[dict[str, Any]]:
    """So many events of a stream."""
    found: list[dict[str, Any]] = []
    headers = {**NDJSON, "Authorization": f"Bearer {key}"}
    async with (
        asyncio.timeout(patience(30)),
        aiohttp.ClientSession() as session,
        session.get(f"{url}/v1/stream?{query}", headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            message = json.loads(line)
            if "type" not in message:
                found.append(message)
                if len(found) == count:
                    break
    return found


async def test_a_client_goes_on_at_another_gateway_with_its_cursor(replicas: Replicas) -> None:
    first, second = replicas
    key = first.make_key(EVERYTHING)
    for batch in range(10):
        (first, second)[batch % 2].post(events("moved", batch * 20, 20), key)
    seen: list[dict[str, Any]] = []
    query = "category=moved&from=start"
    for part, gateway in enumerate((first, second, first, second)):
        seen += await lines(gateway.url, key, query, 50)
        query = f"category=moved&after={seen[-1]['cursor']}"
        assert len(seen) == 50 * (part + 1)
    assert sorted(event["id"] for event in seen) == sorted(f"moved{n}" for n in range(200))
    cursors = [event["cursor"] for event in seen]
    assert cursors == sorted(set(cursors))


async def test_what_one_takes_is_live_at_the_other_and_is_stored_once(replicas: Replicas) -> None:
    first, second = replicas
    key = first.make_key(EVERYTHING)
    waiting = asyncio.create_task(lines(second.url, key, "category=taken&from=start", 3))
    await asyncio.to_thread(first.post, events("taken", 0, 3), key)
    assert [event["id"] for event in await waiting] == ["taken0", "taken1", "taken2"]
    later = events("taken", 1, 3)
    status, answer = await asyncio.to_thread(second.ask, "POST", "/v1/events", key, later)
    assert (status, answer["accepted"], answer["duplicates"]) == (201, 1, 2)


async def test_a_key_revoked_at_one_ends_its_streams_at_the_other_within_a_second(
    replicas: Replicas,
) -> None:
    first, second = replicas
    key = first.make_key(EVERYTHING)
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(second.url + "/v1/stream", headers=headers)
        path = f"/v1/keys/{key[5:17]}/revoke"
        status, _ = await asyncio.to_thread(first.ask, "POST", path, first.first_key, {})
        watch = Stopwatch()
        assert status == 200
        async with asyncio.timeout(patience(10)):
            async for _ in socket:
                pass
        assert socket.close_code == 4501
        assert watch.seconds < 1


async def test_a_key_changed_at_one_narrows_its_streams_at_the_other_within_a_second(
    replicas: Replicas,
) -> None:
    first, second = replicas
    key = first.make_key(EVERYTHING)
    headers = {"Authorization": f"Bearer {key}"}
    narrow = {**EVERYTHING, "categories": ["narrowed.*"]}

    async def change(patch: dict[str, Any]) -> None:
        async with session.patch(
            f"{first.url}/v1/keys/{key[5:17]}", json=patch,
            headers={"Authorization": f"Bearer {first.first_key}", "If-Match": "*"},
        ) as answer:  # fmt: skip
            assert answer.status == 200, await answer.text()

    async def known() -> list[str]:
        async with session.get(f"{second.url}/v1/me", headers=headers) as answer:
            [grant] = (await answer.json())["grants"]
            return list(grant["grant"]["categories"])

    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(second.url + "/v1/stream", headers=headers)
        watch = Stopwatch()
        await change({"grants": [narrow]})
        await becomes(known, narrow["categories"].__eq__)
        assert watch.seconds < 1
        await asyncio.to_thread(first.post, events("unseen", 0, 3), first.first_key)
        await asyncio.to_thread(first.post, events("narrowed.a", 0, 1), first.first_key)
        seen = await asyncio.wait_for(socket.receive_json(), patience(10))
        assert seen["category"] == "narrowed.a"
        watch = Stopwatch()
        await change({"grants": None})
        async with asyncio.timeout(patience(10)):
            async for _ in socket:
                pass
        assert socket.close_code == 4503
        assert watch.seconds < 1


async def test_use_at_both_is_counted_together(replicas: Replicas) -> None:
    first, _ = replicas
    key = first.make_key(EVERYTHING)
    for number, gateway in enumerate(replicas):
        await asyncio.to_thread(gateway.post, events("used", number, 1), key)
    path = f"/v1/keys/{key[5:17]}/usage?window=1h&step=1m"
    async with asyncio.timeout(patience(10)):
        while True:
            _, answer = await asyncio.to_thread(first.ask, "GET", path, first.first_key)
            if sum(row["requests"] for row in answer["rows"]) == 2:
                break
            await asyncio.sleep(0.05)


def test_an_acknowledgement_of_hec_counts_at_another_gateway(replicas: Replicas) -> None:
    first, second = replicas
    key, other = (first.make_key(EVERYTHING) for _ in "12")
    channel = "?channel=fe0ecfad-13d5-401b-847d-77833bd77131"
    status, sent = first.ask("POST", f"/services/collector{channel}", key, b'{"event":"by hec"}')
    assert status == 200, sent
    for asking, told in ((key, True), (other, False)):
        body = {"acks": [sent["ackId"]]}
        status, answer = second.ask("POST", f"/services/collector/ack{channel}", asking, body)
        assert (status, answer) == (200, {"acks": {str(sent["ackId"]): told}})
