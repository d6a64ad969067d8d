"""Live streams of several workers and replicas: listed together, and ended from any of them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from gateway.adapters.postgres.database import SCHEMA
from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import becomes, patience
from tests.support.services.postgres import PostgresServer, installations

pytestmark = pytest.mark.slow
STREAMS = 8


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Each request has a connection of its own, so that they spread over the workers."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


class Operator:
    """Somebody on call at one of the gateways."""

    def __init__(self, gateway: GatewayProcess, key: str, session: aiohttp.ClientSession) -> None:
        self.gateway, self.session = gateway, session
        self._headers = {"Authorization": f"Bearer {key}"}

    async def streams(self) -> dict[str, Any]:
        url = f"{self.gateway.url}/v1/streams"
        async with self.session.get(url, headers=self._headers) as answer:
            document: dict[str, Any] = orjson.loads(await answer.read())
            assert answer.status == 200, document
            return document

    async def all_streams(self, count: int) -> list[dict[str, Any]]:
        """The list, when every process has answered and all streams are there."""
        found = await becomes(
            self.streams, lambda one: not one["partial"] and len(one["streams"]) == count
        )
        assert found["total"] == count
        return list(found["streams"])

    async def end(self, stream: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        url = f"{self.gateway.url}/v1/streams/{stream['id']}/end"
        async with self.session.post(url, headers=self._headers, json={"reason": "r"}) as answer:
            return answer.status, orjson.loads(await answer.read())

    async def ends(self, stream: dict[str, Any]) -> dict[str, Any]:
        """End a stream, whose process a busy machine may have answer too late."""
        async with asyncio.timeout(patience(20)):
            while True:
                status, document = await self.end(stream)
                if status != 503:
                    assert status == 200, document
                    return document


async def opened(gateway: GatewayProcess, key: str) -> ClientConnection:
    return await connect(
        f"ws://{gateway.host}:{gateway.port}/v1/stream", proxy=None, ping_interval=None,
        subprotocols=[Subprotocol("audit.v1")],
        additional_headers={"Authorization": f"Bearer {key}"},
    )  # fmt: skip


async def ended_with(peers: list[ClientConnection]) -> tuple[ClientConnection, int]:
    """The first of some streams that ends, and its code."""

    async def to_end(peer: ClientConnection) -> tuple[ClientConnection, int]:
        try:
            while True:
                await peer.recv()
        except ConnectionClosed as closed:
            return peer, closed.rcvd.code if closed.rcvd else 0

    waiting = [asyncio.create_task(to_end(peer)) for peer in peers]
    done, others = await asyncio.wait(
        waiting, timeout=patience(20), return_when=asyncio.FIRST_COMPLETED
    )
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    [first] = done
    return first.result()


async def test_any_worker_lists_and_ends_the_streams_of_all(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    gateway = await asyncio.to_thread(GatewayProcess, tmp_path / "data", "--workers", "2")
    with gateway:
        key = gateway.first_key
        operator = Operator(gateway, key, session)
        peers: list[ClientConnection] = []
        workers: set[int] = set()
        # The system spreads them as it likes.
        while workers != {0, 1}:
            peers += [await opened(gateway, key) for _ in range(STREAMS)]
            assert len(peers) < 200
            shown = await operator.all_streams(len(peers))
            workers = {one["worker"] for one in shown}
        assert len({one["replica"] for one in shown}) == 1
        assert len({one["id"] for one in shown}) == len(peers)
        for worker in (0, 1):
            one = next(one for one in shown if one["worker"] == worker)
            ended = await operator.ends(one)
            assert (ended["id"], ended["worker"]) == (one["id"], worker)
            peer, code = await ended_with(peers)
            assert code == 4005
            peers.remove(peer)
            left = await operator.all_streams(len(peers))
            assert one["id"] not in {stream["id"] for stream in left}
        status, problem = await operator.end(shown[0] | {"id": "00000000-1"})
        assert (status, problem["code"]) == (404, "unknown_stream")
        for peer in peers:
            await peer.close()


async def test_any_replica_lists_and_ends_the_streams_of_all_and_names_who_is_silent(
    tmp_path: Path, session: aiohttp.ClientSession, server_of: Callable[[str], PostgresServer]
) -> None:
    server = server_of(max(installations()))
    async with server.database(SCHEMA) as url:
        with ExitStack() as stack:
            settings = {"AUDIT_GATEWAY_STORE__URL": url}
            made = [
                await asyncio.to_thread(
                    GatewayProcess, tmp_path, settings=settings, shows_key=first
                )
                for first in (True, False)
            ]
            one, two = (stack.enter_context(gateway) for gateway in made)
            key = one.first_key
            operator = Operator(one, key, session)
            here, there = await opened(one, key), await opened(two, key)
            shown = await operator.all_streams(2)
            replicas = {stream["replica"] for stream in shown}
            assert len(replicas) == 2
            assert {s["replica"] for s in await Operator(two, key, session).all_streams(2)} == (
                replicas
            )
            [of_one] = [s for s in shown if s["replica"].endswith(f"-{one.pid}")]
            [of_two] = [s for s in shown if s["replica"].endswith(f"-{two.pid}")]
            os.kill(two.pid, signal.SIGSTOP)
            try:
                partial = await becomes(operator.streams, lambda found: found["partial"])
                assert partial["missing"] == [of_two["replica"]]
                assert [s["id"] for s in partial["streams"]] == [of_one["id"]]
                status, problem = await operator.end(of_two)
                assert (status, problem["code"]) == (503, "replica_silent")
                status, problem = await operator.end(of_two | {"id": "00000000-1"})
                assert (status, problem["code"]) == (404, "unknown_stream")
            finally:
                os.kill(two.pid, signal.SIGCONT)
            # What it was asked while it stood still, it does not do now.
            shown = await operator.all_streams(2)
            assert of_two["id"] in {s["id"] for s in shown}
            assert (await operator.ends(of_two))["replica"] == of_two["replica"]
            assert await ended_with([here, there]) == (there, 4005)
            [left] = await operator.all_streams(1)
            assert left["id"] == of_one["id"]
            await here.close()
            await asyncio.to_thread(two.stop)
            # It has said that it ends.
            assert (await operator.streams())["missing"] == []
