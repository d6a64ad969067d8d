"""Three gateways on one PostgreSQL and one destination: whoever dies, it goes on elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.adapters.postgres.database import SCHEMA
from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import eventually, patience
from tests.support.scripted_receiver import Received, Reply, ScriptedReceiver, scripted_receiver
from tests.support.services.postgres import PostgresServer, installations

pytestmark = pytest.mark.slow
EVENTS = 200


def takes(_: Received) -> Reply:
    return Reply(204)


def ids_of(receiver: ScriptedReceiver) -> list[str]:
    lines = [line for body in receiver.bodies for line in body.splitlines()]
    return [orjson.loads(line)["id"] for line in lines]


async def ask(
    gateway: GatewayProcess, method: str, path: str, key: str, body: object = None
) -> Any:
    status, answer = await asyncio.to_thread(gateway.ask, method, path, key, body)
    assert status < 300, answer
    return answer


async def send(gateway: GatewayProcess, key: str, name: str) -> set[str]:
    ids = [f"{name}{number}" for number in range(EVENTS)]
    events = [{"id": one, "category": "auth", "action": "login"} for one in ids]
    await ask(gateway, "POST", "/v1/events", key, events)
    return set(ids)


async def holder_of(gateways: Sequence[GatewayProcess], key: str) -> GatewayProcess:
    """The one of these gateways that delivers."""
    async with asyncio.timeout(patience(30)):
        while True:
            shown = await ask(gateways[0], "GET", "/v1/destinations/siem", key)
            for gateway in gateways:
                if shown.get("replica", "").endswith(f"-{gateway.pid}"):
                    return gateway
            await asyncio.sleep(0.1)


async def test_a_destination_goes_on_elsewhere_and_loses_nothing(
    tmp_path: Path, server_of: Callable[[str], PostgresServer]
) -> None:
    server = server_of(max(installations()))
    async with server.database(SCHEMA) as url, scripted_receiver(takes) as receiver:
        with ExitStack() as stack:
            settings = {
                "AUDIT_GATEWAY_STORE__URL": url,
                "AUDIT_GATEWAY_DESTINATIONS__ALLOW_NETWORKS": "127.0.0.0/8",
            }
            gateways: list[GatewayProcess] = []
            for number in range(3):
                gateways.append(
                    await asyncio.to_thread(
                        GatewayProcess, tmp_path, settings=settings, shows_key=number == 0
                    )
                )
                stack.enter_context(gateways[-1])
            key = gateways[0].first_key
            body = {
                "name": "siem", "type": "http", "key": key.split("_")[1],
                "select": {"category": "auth"},
                "settings": {"url": f"http://127.0.0.1:{receiver.port}/"},
                "batch": {"max_events": 20, "max_wait": "10ms"},
            }  # fmt: skip
            await ask(gateways[0], "POST", "/v1/destinations", key, body)
            sent = await send(gateways[1], key, "first")
            await eventually(lambda: set(ids_of(receiver)) >= sent, "they arrived")
            # Killed in the middle of a delivery.
            dead = await holder_of(gateways, key)
            others = [one for one in gateways if one is not dead]
            sent |= await send(others[0], key, "second")
            dead.kill()
            sent |= await send(others[1], key, "third")
            await eventually(lambda: set(ids_of(receiver)) >= sent, "another goes on")
            # Stopped in order, the next goes on at once and nothing is sent twice.
            stopped = await holder_of(others, key)
            [last] = [one for one in others if one is not stopped]
            before = len(ids_of(receiver))
            await asyncio.to_thread(stopped.stop)
            fourth = await send(last, key, "fourth")
            await eventually(lambda: set(ids_of(receiver)) >= sent | fourth, "all arrived")
            assert len(ids_of(receiver)) == before + EVENTS
