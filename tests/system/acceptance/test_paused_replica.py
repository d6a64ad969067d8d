"""Two gateways on one PostgreSQL, one of which stands still while the other goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from gateway.adapters.postgres.database import SCHEMA
from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import patience
from tests.support.services.postgres import PostgresServer, installations

pytestmark = pytest.mark.slow
EVENTS = 20


async def reading(gateway: GatewayProcess, key: str, options: str = "") -> ClientConnection:
    """A reader of the consumer."""
    url = f"ws://{gateway.host}:{gateway.port}/v1/stream?consumer=siem&from=start&category=auth"
    return await connect(
        url + options, proxy=None, ping_interval=None, subprotocols=[Subprotocol("audit.v1")],
        additional_headers={"Authorization": f"Bearer {key}"},
    )  # fmt: skip


async def taking_over(gateway: GatewayProcess, key: str) -> ClientConnection:
    """A reader that takes the consumer over. The database may have to end first what the replica
    before it was about when it was stopped."""
    async with asyncio.timeout(patience(20)):
        while True:
            try:
                return await reading(gateway, key, "&takeover=true")
            except InvalidStatus:
                await asyncio.sleep(0.1)


async def events_of(peer: ClientConnection, count: int) -> list[Any]:
    """The next events."""
    found = []
    async with asyncio.timeout(patience(20)):
        while len(found) < count:
            message = orjson.loads(await peer.recv())
            if message["type"] == "event":
                found.append(message["event"])
    return found


async def end_of(peer: ClientConnection) -> tuple[list[Any], int]:
    """All messages up to the end, and its code."""
    said = []
    async with asyncio.timeout(patience(20)):
        try:
            while True:
                said.append(orjson.loads(await peer.recv()))
        except ConnectionClosed as closed:
            return said, closed.rcvd.code if closed.rcvd else 0


def acknowledging(event: Any) -> str:
    return orjson.dumps({"type": "ack", "cursor": event["cursor"]}).decode()


async def test_a_replica_that_was_stopped_and_wakes_up_moves_no_cursor(
    tmp_path: Path, server_of: Callable[[str], PostgresServer]
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
            paused, other = (stack.enter_context(gateway) for gateway in made)
            key = paused.first_key
            events = [{"id": f"e{n}", "category": "auth", "action": "login"} for n in range(EVENTS)]
            await asyncio.to_thread(paused.post, events, key)
            sleeper = await reading(paused, key)
            seen = await events_of(sleeper, EVENTS)
            os.kill(paused.pid, signal.SIGSTOP)
            try:
                # What it is told now, it reads when it wakes up.
                await sleeper.send(acknowledging(seen[-1]))
                newer = await taking_over(other, key)
                again = await events_of(newer, EVENTS)
                assert [one["id"] for one in again] == [one["id"] for one in events]
                await newer.send(acknowledging(again[4]))
                async with asyncio.timeout(patience(20)):
                    while orjson.loads(await newer.recv())["type"] != "acked":
                        pass
            finally:
                os.kill(paused.pid, signal.SIGCONT)
            said, code = await end_of(sleeper)
            assert code == 4505
            assert "acked" not in {one["type"] for one in said}
            _, shown = await asyncio.to_thread(other.ask, "GET", "/v1/consumers/siem", key)
            assert shown["cursor"] == again[4]["cursor"]
            await newer.close()
            await sleeper.close()
